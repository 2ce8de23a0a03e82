/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The socket of a session whose library never sees one: it writes TLS records to memory, and the program
 * sends them (node, Python's asyncio). Each record is unique, so where the very beginning of one leaves by
 * a socket, that is the session's. So it also shows whether a socket seen inside a call is the session's. */
#ifndef TLSDUMP_RECORD_H
#define TLSDUMP_RECORD_H

#define RECORD_HEADER_BYTES 5 /* type, version, length: RFC 8446, section 5.1 */
#define RECORD_HANDSHAKE 22
#define RECORD_APPLICATION_DATA 23
#define RECORD_BYTES_MIN 21 /* header and authentication tag: what is shorter is not unique */
#define BEGINNING_BYTES 32 /* of a record, its header included */
#define AWAITED_MAX 8192

struct record_key {
	u8 beginning[BEGINNING_BYTES]; /* of a shorter record only RECORD_BYTES_MIN, and zeros */
	u32 pid;
	u32 reserved;
};

struct awaited {
	u64 ssl;
	u64 session;
};

/* Records that were written to memory and not yet seen leaving. LRU: some never are. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, AWAITED_MAX);
	__type(key, struct record_key);
	__type(value, struct awaited);
} awaited SEC(".maps");

/* Processes that have such: asked at each system call that sends, on the whole machine. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, u32);
	__type(value, u8);
} awaiting SEC(".maps");

/* Reads the beginning of the record at `data`, of which `len` bytes are there. False: it is none. */
static __always_inline bool record_read(struct record_key *key, const void *data, u64 len)
{
	u32 length;

	if (len < RECORD_BYTES_MIN || bpf_probe_read_user(key->beginning, RECORD_BYTES_MIN, data))
		return false;
	if (key->beginning[0] != RECORD_HANDSHAKE && key->beginning[0] != RECORD_APPLICATION_DATA)
		return false;
	if (key->beginning[1] != 3)
		return false;
	length = RECORD_HEADER_BYTES + (key->beginning[3] << 8 | key->beginning[4]);
	if (length > len)
		length = len;
	if (length < RECORD_BYTES_MIN)
		return false;
	if (length >= BEGINNING_BYTES && bpf_probe_read_user(key->beginning, BEGINNING_BYTES, data))
		return false;
	key->pid = bpf_get_current_pid_tgid() >> 32;
	return true;
}

/* int BIO_write(bio, const void *data, int len): within a call, the library's own record goes wherever it
 * goes. Once a session's record was seen leaving, no more of it are awaited. */
SEC("uprobe")
int BPF_UPROBE(record_written, void *bio, const void *data, int len)
{
	struct call *call = call_top();
	struct record_key key = {};
	struct session_key of;
	struct awaited awaits = {};
	struct session *s;
	u8 one = 1;

	if (!call || len <= 0)
		return 0;
	of = session_key(call->ssl);
	s = bpf_map_lookup_elem(&sessions, &of);
	if (!s || s->record_seen || s->fd >= 0 || !record_read(&key, data, len))
		return 0;
	awaits.ssl = call->ssl;
	awaits.session = s->context.session;
	bpf_map_update_elem(&awaited, &key, &awaits, BPF_ANY);
	bpf_map_update_elem(&awaiting, &key.pid, &one, BPF_NOEXIST);
	return 0;
}

/* `len` bytes at `data` are being sent over a descriptor. */
static __always_inline int record_leaves(s32 fd, const void *data, u64 len)
{
	struct record_key key = {};
	struct session_key of;
	struct awaited *awaits;
	struct session *s;
	struct sock *sk;

	if (!record_read(&key, data, len))
		return 0;
	awaits = bpf_map_lookup_elem(&awaited, &key);
	if (!awaits)
		return 0;
	of = session_key(awaits->ssl);
	s = bpf_map_lookup_elem(&sessions, &of);
	sk = sock_of_fd(fd);
	if (s && sk && s->context.session == awaits->session) {
		if (s->sock == (u64)sk && s->context.conn.how == HOW_NESTED)
			s->record_seen = 1;
		else if (session_bind(s, sk, HOW_RECORD))
			s->record_seen = 1;
	}
	bpf_map_delete_elem(&awaited, &key);
	return 0;
}

/* The numbers of system calls, asm/unistd_64.h and asm-generic/unistd.h. Those that send several messages
 * have the first at the same place. */
#if defined(__TARGET_ARCH_x86)
#define NR_WRITE 1
#define NR_WRITEV 20
#define NR_SENDTO 44
#define NR_SENDMSG 46
#define NR_SENDMMSG 307
#else
#define NR_WRITE 64
#define NR_WRITEV 66
#define NR_SENDTO 206
#define NR_SENDMSG 211
#define NR_SENDMMSG 269
#endif

struct vector {
	u64 base, len;
};

struct message {
	u64 name, name_len, vectors;
};

static __always_inline int vector_leaves(s32 fd, const void *vectors)
{
	struct vector first;

	if (bpf_probe_read_user(&first, sizeof(first), vectors))
		return 0;
	return record_leaves(fd, (void *)first.base, first.len);
}

SEC("raw_tp/sys_enter")
int record_sent(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u64 nr = ctx->args[1];
	struct message message;
	const void *at;
	s32 fd;

	if (nr != NR_WRITE && nr != NR_WRITEV && nr != NR_SENDTO && nr != NR_SENDMSG && nr != NR_SENDMMSG)
		return 0;
	if (!bpf_map_lookup_elem(&awaiting, &pid))
		return 0;
	fd = PT_REGS_PARM1_CORE_SYSCALL(regs);
	at = (void *)PT_REGS_PARM2_CORE_SYSCALL(regs);
	if (nr == NR_WRITE || nr == NR_SENDTO)
		return record_leaves(fd, at, PT_REGS_PARM3_CORE_SYSCALL(regs));
	if (nr == NR_WRITEV)
		return vector_leaves(fd, at);
	if (bpf_probe_read_user(&message, sizeof(message), at))
		return 0;
	return vector_leaves(fd, (void *)message.vectors);
}

#endif
