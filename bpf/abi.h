/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the kernel side and user space (src/wire.rs) must agree on: records, bounds, configuration.
 * No code. Integers are little endian; every struct is free of holes, so that its bytes are a format:
 * a recorded stream (docs/stream-format.md) keeps them as they are. */
#ifndef TLSDUMP_ABI_H
#define TLSDUMP_ABI_H

#define COMM_BYTES 16 /* TASK_COMM_LEN */
#define CHUNK_BYTES 16384 /* plaintext in one record at the most: one TLS record's worth */
#define NAME_BYTES_MAX 255 /* of a host name (RFC 1035) and of a protocol name (RFC 7301) */
#define RANDOM_BYTES 32 /* of each side's random number: RFC 8446, section 4.1.2 */
#define SECRET_BYTES_MAX 64 /* as the longest hash */

enum record_kind {
	RECORD_DATA = 1,
	RECORD_CLOSE = 2,
	RECORD_EXIT = 3,
	RECORD_NAME = 4,
	RECORD_SECRET = 5,
};

enum direction {
	DIR_OUT = 0, /* written by the traced process */
	DIR_IN = 1, /* read by it */
};

enum address_source {
	HOW_UNKNOWN = 0,
	HOW_FD = 1, /* the session's descriptor, followed to its socket */
	HOW_NESTED = 2, /* the socket was used inside the call */
	HOW_RECORD = 3, /* a TLS record that the library made was sent over the socket */
};

enum session_role {
	ROLE_UNKNOWN = 0,
	ROLE_CLIENT = 1,
	ROLE_SERVER = 2,
};

enum name_kind {
	NAME_SERVER = 1, /* the host that the client asked for (SNI, RFC 6066) */
	NAME_PROTOCOL = 2, /* the protocol that was agreed on (ALPN, RFC 7301) */
	NAME_SOCKET = 3, /* what the session is on instead of TCP: struct socket_name */
};

enum secret_kind { /* by the label of the secret in RFC 8446, section 7.1 */
	SECRET_MASTER = 1, /* the master secret of TLS 1.2 and before */
	SECRET_CLIENT_EARLY = 2,
	SECRET_EARLY_EXPORTER = 3,
	SECRET_CLIENT_HANDSHAKE = 4,
	SECRET_SERVER_HANDSHAKE = 5,
	SECRET_CLIENT_TRAFFIC = 6,
	SECRET_SERVER_TRAFFIC = 7,
	SECRET_EXPORTER = 8,
};

enum close_reason {
	CLOSE_SHUTDOWN = 1, /* SSL_shutdown */
	CLOSE_FREE = 2, /* SSL_free, or SSL_new at the same place */
};

struct record_header {
	__u32 size; /* of the whole record, this header included */
	__u16 kind; /* enum record_kind */
	__u16 flags; /* of RECORD_EXIT; else 0 */
};

#define EXIT_LOST 1 /* bytes of the process's sessions were lost */

struct task_info {
	__u32 pid; /* thread group, initial PID namespace */
	__u32 tid;
	__u32 uid; /* initial user namespace */
	__u32 mntns; /* inode number: used again after the namespace is gone */
	__u64 mntns_id; /* never used again; 0 where the kernel has none */
	__u64 start_ns; /* of the process, CLOCK_MONOTONIC */
	char comm[COMM_BYTES];
};

struct conn_info {
	__u8 family; /* 0 unknown, 4, 6 */
	__u8 how; /* enum address_source */
	__u8 role; /* enum session_role */
	__u8 place; /* counts how often what was known of the session's socket came to be wrong */
	__u16 local_port;
	__u16 remote_port;
	__u32 netns; /* inode number */
	__u32 reserved2;
	__u8 local[16]; /* network order; IPv4 in the first four bytes */
	__u8 remote[16];
};

/* Begins every record about a session, so that losing one record loses nothing but its bytes. */
struct context {
	struct record_header header;
	__u64 at_ns; /* writes: when the call began; reads: when it returned */
	__u64 session; /* unique in a capture */
	__u32 number; /* of this record among those of the session that reached the buffer */
	__u32 library; /* attach cookie; 0 where the kernel has no cookies */
	struct task_info task;
	struct conn_info conn;
};

struct data_record {
	struct context context;
	__u64 offset; /* of bytes[0] in the plaintext of this direction */
	__u32 len; /* of bytes[] */
	__u32 dir; /* enum direction */
	/* followed by bytes[len] */
};

struct close_record {
	struct context context;
	__u64 totals[2]; /* bytes moved in the session so far, by direction */
	__u32 reason; /* enum close_reason */
	__u32 reserved;
};

struct name_record {
	struct context context;
	__u32 what; /* enum name_kind */
	__u32 len; /* of bytes[] */
	/* followed by bytes[len] */
};

/* Its context has the number of the next record: it has none of its own, since nothing misses it. */
struct secret_record {
	struct context context;
	__u32 what; /* enum secret_kind */
	__u32 len; /* of secret[] */
	__u8 client_random[RANDOM_BYTES];
	__u8 secret[SECRET_BYTES_MAX]; /* and zeros */
};

/* What a socket is called that is not TCP's. It ends where its family's name does. */
#define SOCKET_NAME_BYTES 4 /* before that name */
#define SUN_PATH_BYTES 108 /* linux/un.h */

struct socket_name {
	__u16 family; /* AF_UNIX, …: linux/socket.h */
	__u16 protocol;
	union {
		__u8 path[SUN_PATH_BYTES]; /* AF_UNIX; begins with 0 in the abstract namespace */
		struct {
			__u32 cid, port; /* AF_VSOCK: the remote end's */
		} vsock;
	};
};

struct exit_record {
	struct record_header header;
	__u64 at_ns;
	struct task_info task;
};

/* Set between open and load; read-only in the kernel. */
struct config {
	__u32 by_mntns; /* only the mount namespaces of the map wanted_mntns */
	__u32 by_pid;
	__u32 by_uid;
	__u32 by_comm;
	__u32 use_ring; /* the map events is a ring buffer, else a perf buffer */
	__u32 own_pid; /* never traced; its exiting threads teach namespace ids */
	__u32 wakeup_bytes; /* waiting in the ring buffer before user space is woken */
};

/* Counted where it happens, per CPU; cumulative. */
struct counters {
	__u64 moved_bytes;
	__u64 captured_bytes;
	__u64 lost_bytes;
	__u64 lost_records;
	__u64 unreadable;
	__u64 lost_calls;
	__u64 socket_conflicts;
	__u64 lost_secrets;
};

/* Key and value of the map of sessions. User space reads it when records were lost. */
struct session_key {
	__u64 ssl;
	__u32 pid;
	__u32 reserved;
};

struct session {
	struct context context; /* of the next record; number counts those that reached the buffer */
	__u64 totals[2];
	__u64 sock; /* address of the struct sock that it is on */
	__u64 other_sock; /* of another that was used inside a call, and not sock since */
	__s32 fd; /* given by SSL_set_fd, -1 where it was not */
	__u32 ended; /* bit set of enum close_reason: told already */
	__u32 named; /* bit set of enum name_kind: told already */
	__u32 gone; /* not 0: nothing is left of it, so what is at its place now is another */
	__u32 record_seen; /* not 0: no more of its records are awaited; one was seen leaving by its socket */
	__u32 copies; /* so many of its records were seen leaving by another socket too */
	__u64 retried; /* what is written when a call without a buffer asks to go on; 0: nothing */
};

#endif
