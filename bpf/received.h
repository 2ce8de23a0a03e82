/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sessions of which nothing is seen but that the program receives for them: they were connected before the
 * capture, and only read. What the program receives is remembered by how it begins; where the library then
 * reads the same from memory, the session is found. After the library had asked in vain for more, its next
 * piece begins where the next one begins that the program received. */
#ifndef TLSDUMP_RECEIVED_H
#define TLSDUMP_RECEIVED_H

#define RECEIVED_BYTES 16 /* as many as an authentication tag has: no other piece begins so */
#define RECEIVED_MAX 8192

struct received_key {
	u8 beginning[RECEIVED_BYTES];
	u32 pid;
	u32 reserved;
};

struct received {
	u64 sock;
	struct conn_info conn; /* the socket may be gone when the library reads */
};

/* What was received by TCP. LRU: most is never read by a session that is looked for. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RECEIVED_MAX);
	__type(key, struct received_key);
	__type(value, struct received);
} received SEC(".maps");

static __always_inline bool received_read(struct received_key *key, u64 data, u64 len)
{
	if (len < RECEIVED_BYTES || bpf_probe_read_user(key->beginning, RECEIVED_BYTES, (void *)data))
		return false;
	key->pid = bpf_get_current_pid_tgid() >> 32;
	return true;
}

static __always_inline void received_keep(const struct received *r, u64 data, u64 len)
{
	struct received_key key = {};
	struct received *before;

	if (!received_read(&key, data, len))
		return;
	before = bpf_map_lookup_elem(&received, &key);
	/* The program has received the same by another socket: it passes on what it receives, so that the
	 * bytes don't tell whose they are. */
	if (before && before->sock != r->sock)
		watch_process(WATCH_NOT);
	bpf_map_update_elem(&received, &key, r, BPF_ANY);
}

static __always_inline bool is_local(const struct conn_info *conn)
{
	const u64 *local = (void *)conn->local, *remote = (void *)conn->remote;

	return local[0] == remote[0] && local[1] == remote[1];
}

/* `len` bytes were received by `sk`. Unless all are kept, only what may come from the program itself is. */
static __noinline int received_by(struct sock *sk, const struct moving *m, u64 len, bool all)
{
	struct received r = { .sock = (u64)sk };
	struct vector piece;

	if (!is_tcp(sk) || !moving_piece(m, 0, &piece) || !conn_fill(&r.conn, sk))
		return 0;
	if (!all && !is_local(&r.conn))
		return 0;
	if (piece.len > len)
		piece.len = len;
	received_keep(&r, piece.base, piece.len);
	/* The library reads the header of a record by itself. */
	if (piece.len > RECORD_HEADER_BYTES && record_begins(piece.base, piece.len))
		received_keep(&r, piece.base + RECORD_HEADER_BYTES, piece.len - RECORD_HEADER_BYTES);
	return 0;
}

/* The session of the call, if nothing is known of its socket. */
static __always_inline struct session *session_unknown(struct call *call)
{
	struct session_key key;
	struct session *s;

	if (!call)
		return NULL;
	key = session_key(call->ssl);
	s = bpf_map_lookup_elem(&sessions, &key);
	return s && !s->context.conn.how && s->fd < 0 ? s : NULL;
}

/* int BIO_read(bio, void *data, int len), within a call. */
SEC("uprobe")
int BPF_UPROBE(enter_record_read, void *bio, void *data)
{
	struct call *call = call_top();

	if (session_unknown(call))
		call->reads = (u64)data;
	return 0;
}

SEC("uretprobe")
int exit_record_read(struct pt_regs *ctx)
{
	struct call *call = call_top();
	struct session *s = session_unknown(call);
	struct received_key key = {};
	s32 len = PT_REGS_RC(ctx);
	struct received *r;
	u64 data;
	u8 role, place;

	if (!s || !call->reads)
		return 0;
	data = call->reads;
	call->reads = 0;
	if (watch_process(WATCH_RECEIVED) & WATCH_NOT)
		return 0;
	if (len <= 0 || !received_read(&key, data, len))
		return 0;
	r = bpf_map_lookup_elem(&received, &key);
	if (!r)
		return 0;
	role = s->context.conn.role;
	place = s->context.conn.place;
	s->context.conn = r->conn;
	s->context.conn.role = role;
	s->context.conn.place = place;
	s->context.conn.how = HOW_RECORD;
	s->sock = r->sock;
	session_own(s, call->ssl, s->sock);
	return 0;
}

#endif
