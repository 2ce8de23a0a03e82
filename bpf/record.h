/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* TLS records, as they pass the program's memory. Where the library sees no socket, because it writes records
 * to memory and the program sends them (node, Python's asyncio), they tell it: each is unique, so where the
 * very beginning of one leaves by a socket, that is the session's. */
#ifndef TLSDUMP_RECORD_H
#define TLSDUMP_RECORD_H

#define RECORD_HEADER_BYTES 5 /* type, version, length: RFC 8446, section 5.1 */
#define RECORD_CHANGE_CIPHER_SPEC 20
#define RECORD_HANDSHAKE 22
#define RECORD_APPLICATION_DATA 23
#define RECORD_HEARTBEAT 24 /* the highest type: RFC 6520 */
#define RECORD_LENGTH_MAX (16384 + 2048) /* RFC 5246, section 6.2.3; less in TLS 1.3 */
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
	u64 sock; /* by which it left, or 0 */
};

/* Records that were written to memory. LRU: some are never seen leaving. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, AWAITED_MAX);
	__type(key, struct record_key);
	__type(value, struct awaited);
} awaited SEC(".maps");

#define WATCH_SENT 1 /* its records are awaited */
#define WATCH_RECEIVED 2 /* what it receives is to be remembered */
#define WATCH_NOT 4 /* but does not tell whose it is */

/* Processes that are watched, and for what: asked at each use of a socket on the machine. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, u32);
	__type(value, u8);
} watched SEC(".maps");

/* For what the process is watched. */
static __always_inline u8 watched_for(void)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u8 *what = bpf_map_lookup_elem(&watched, &pid);

	return what ? *what : 0;
}

/* Watches the process for this too. */
static __always_inline u8 watch_process(u8 what)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u8 before = watched_for(), all = before | what;

	if (all != before)
		bpf_map_update_elem(&watched, &pid, &all, BPF_ANY);
	return all;
}

/* Whether the `len` bytes at `data` begin with the header of a record of whatever type. */
static __always_inline bool record_begins(u64 data, u64 len)
{
	u8 header[RECORD_HEADER_BYTES];
	u32 length;

	if (len < sizeof(header) || bpf_probe_read_user(header, sizeof(header), (void *)data))
		return false;
	length = header[3] << 8 | header[4];
	return header[0] >= RECORD_CHANGE_CIPHER_SPEC && header[0] <= RECORD_HEARTBEAT && header[1] == 3 &&
	       header[2] <= 4 && length && length <= RECORD_LENGTH_MAX;
}

/* Reads the beginning of the record at `data`, of which `len` bytes are there. False: it is none. */
static __always_inline bool record_read(struct record_key *key, const void *data, u64 len)
{
	u32 length;

	__builtin_memset(key->beginning, 0, sizeof(key->beginning));
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

/* The library has made this record for the session: it will leave by the session's socket. */
static __always_inline void record_await(const struct session *s, u64 ssl, const struct record_key *key)
{
	struct awaited awaits = { .ssl = ssl, .session = s->context.session };

	/* What is awaited already is another session's, whose record a callback passes on. */
	bpf_map_update_elem(&awaited, key, &awaits, BPF_NOEXIST);
	watch_process(WATCH_SENT);
}

/* int BIO_write(bio, const void *data, int len): within a call, the library's own record goes wherever it
 * goes. Once a session's record was seen leaving, no more of it are awaited. */
SEC("uprobe")
int BPF_UPROBE(record_written, void *bio, const void *data, int len)
{
	struct call *call = call_top();
	struct record_key key = {};
	struct session_key of;
	struct session *s;

	if (!call || len <= 0)
		return 0;
	of = session_key(call->ssl);
	s = bpf_map_lookup_elem(&sessions, &of);
	if (!s || s->record_seen || s->fd >= 0 || !record_read(&key, data, len))
		return 0;
	record_await(s, call->ssl, &key);
	return 0;
}

#endif
