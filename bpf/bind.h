/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* That a session is on a socket. docs/SOCKETS.md tells all ways by which it becomes known on which. */
#ifndef TLSDUMP_BIND_H
#define TLSDUMP_BIND_H

struct owner {
	struct session_key key;
	u64 session;
};

/* Sockets → the latest session that was seen to be on one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SESSIONS_MAX);
	__type(key, u64);
	__type(value, struct owner);
} owners SEC(".maps");

/* Whether another session is on `sk` and not at its end. TLS inside TLS is seen on no socket of its own. */
static __always_inline bool is_others(const struct session *s, struct sock *sk)
{
	u64 at = (u64)sk;
	struct owner *owner = bpf_map_lookup_elem(&owners, &at);
	struct session *other;

	if (!owner || owner->session == s->context.session)
		return false;
	other = bpf_map_lookup_elem(&sessions, &owner->key);
	return other && other->context.session == owner->session && other->sock == at && !other->gone &&
	       !(other->ended & (1 << CLOSE_FREE)) && has_ports(&other->context.conn, sk);
}

static __always_inline void session_own(const struct session *s, u64 ssl, u64 sock)
{
	struct owner owner = { .key = session_key(ssl), .session = s->context.session };

	bpf_map_update_elem(&owners, &sock, &owner, BPF_ANY);
}

/* The session's socket is not known any more: nothing wrong may be said of what follows. */
static __always_inline void session_unbind(struct session *s)
{
	u8 role = s->context.conn.role, place = s->context.conn.place;

	__builtin_memset(&s->context.conn, 0, sizeof(s->context.conn));
	s->context.conn.role = role;
	s->context.conn.place = place + 1;
	s->sock = 0;
	s->other_sock = 0;
	s->record_seen = 0;
	s->named &= ~(1 << NAME_SOCKET);
}

/* The session is on `sk`: on its addresses if it is TCP, else its name is told. False: it is TCP and not
 * connected. */
static __always_inline bool session_bind(void *ctx, struct session *s, u64 ssl, struct sock *sk, u8 how)
{
	if (is_tcp(sk)) {
		if (!conn_fill(&s->context.conn, sk))
			return false;
		s->named &= ~(1 << NAME_SOCKET);
	} else if (s->sock != (u64)sk || s->context.conn.family) {
		session_unbind(s);
	}
	s->context.conn.how = how;
	s->sock = (u64)sk;
	session_own(s, ssl, s->sock);
	if (!s->context.conn.family)
		socket_tell(ctx, s, sk);
	return true;
}

/* At calls that move data, as long as no addresses are known: the descriptor may be connected by now. */
static __noinline int session_bind_fd(void *ctx, struct session *s, u64 ssl)
{
	struct sock *sk = sock_of_fd(s->fd);

	if (sk && s->sock != (u64)sk)
		session_bind(ctx, s, ssl, sk, HOW_FD);
	return 0;
}

/* The program gives the session this descriptor, or none. */
static __always_inline void session_set_fd(void *ctx, struct session *s, u64 ssl, s32 fd)
{
	session_unbind(s);
	s->fd = fd;
	session_bind_fd(ctx, s, ssl);
}

#endif
