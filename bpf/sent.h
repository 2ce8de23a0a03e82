/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Records that the program sends: where one that is awaited leaves by TCP first, the session is. */
#ifndef TLSDUMP_SENT_H
#define TLSDUMP_SENT_H

#define COPIES_MAX 2 /* records that leave twice, until the session is given up */

/* Whether the program itself has received the record from the socket that the session is on: a thread of it
 * passes on what another has sent. */
static __always_inline bool is_relayed(const struct session *s, const struct record_key *record)
{
	const struct conn_info *conn = &s->context.conn;
	struct received_key key = { .pid = record->pid };
	struct received *r;

	__builtin_memcpy(key.beginning, record->beginning, RECEIVED_BYTES);
	r = bpf_map_lookup_elem(&received, &key);
	return r && r->conn.local_port == conn->remote_port && r->conn.remote_port == conn->local_port &&
	       r->conn.netns == conn->netns;
}

/* A record of the session leaves a second time, by another socket. Which one is the session's is not known,
 * then: a copy may be made before as well as after. */
static __always_inline void leaves_again(struct session *s, u64 first, struct sock *sk,
					 const struct record_key *record)
{
	if (first == (u64)sk || s->sock != first || s->context.conn.how != HOW_RECORD ||
	    is_relayed(s, record))
		return;
	session_unbind(s);
	s->copies++;
	s->record_seen = s->copies >= COPIES_MAX;
}

/* A record leaves by `sk`. Gives the session whose it is, or 0. */
static __noinline u64 record_leaves(void *ctx, struct sock *sk, const struct record_key *record)
{
	struct awaited *awaits = bpf_map_lookup_elem(&awaited, record);
	struct session_key of;
	struct session *s;
	u64 session;

	if (!awaits)
		return 0;
	of = session_key(awaits->ssl);
	session = awaits->session;
	s = bpf_map_lookup_elem(&sessions, &of);
	/* A callback of one session may have passed on another's: the library's calls aren't all seen. */
	if (!s || s->context.session != session || is_others(s, sk)) {
		bpf_map_delete_elem(&awaited, record);
		return 0;
	}
	if (awaits->sock) {
		leaves_again(s, awaits->sock, sk, record);
		return session;
	}
	if (s->sock == (u64)sk && has_ports(&s->context.conn, sk))
		s->record_seen = 1;
	else if (session_bind(ctx, s, awaits->ssl, sk, HOW_RECORD))
		s->record_seen = s->context.conn.family != 0;
	/* By another socket than TCP's it may only go to whoever sends it. */
	if (s->context.conn.family)
		awaits->sock = (u64)sk;
	return session;
}

/* The first piece that begins with a record that is awaited. False: there is none. */
static __noinline bool record_among(struct record_key *record, const struct moving *m)
{
	struct vector piece;

	for (u32 i = 0; i < VECTORS_MAX && moving_piece(m, i, &piece); i++)
		if (record_read(record, (void *)piece.base, piece.len) &&
		    bpf_map_lookup_elem(&awaited, record))
			return true;
	return false;
}

/* What moves leaves by `sk`. Gives the session of which it has a record, or 0. */
static __always_inline u64 records_leave(void *ctx, struct sock *sk, const struct moving *m)
{
	struct record_key record = {};

	return record_among(&record, m) ? record_leaves(ctx, sk, &record) : 0;
}

#endif
