/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The socket of a session. The library's data goes over it on the same thread, inside the call: a witness, a
 * program that the kernel runs with the struct sock in hand, binds the session to it. A descriptor given by
 * SSL_set_fd is followed as well, and has the last word on which socket is the session's. */
#ifndef TLSDUMP_SOCK_H
#define TLSDUMP_SOCK_H

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* Fills the addresses from a connected TCP socket; false for any other, and for one that is closed on both
 * sides and has given up its port, though what was received can still be read. */
static __always_inline bool conn_fill(struct conn_info *conn, struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u16 remote_port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	u16 local_port = BPF_CORE_READ(sk, __sk_common.skc_num);

	if (BPF_CORE_READ_BITFIELD_PROBED(sk, sk_protocol) != IPPROTO_TCP || !remote_port || !local_port)
		return false;
	if (family == AF_INET) {
		__builtin_memset(conn->local, 0, sizeof(conn->local));
		__builtin_memset(conn->remote, 0, sizeof(conn->remote));
		BPF_CORE_READ_INTO((u32 *)conn->local, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((u32 *)conn->remote, sk, __sk_common.skc_daddr);
		conn->family = 4;
	} else if (family == AF_INET6) {
		BPF_CORE_READ_INTO(&conn->local, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&conn->remote, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
		conn->family = 6;
	} else {
		return false;
	}
	conn->local_port = local_port;
	conn->remote_port = __builtin_bswap16(remote_port);
	conn->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	return true;
}

/* The socket behind a descriptor of the current process, or NULL. */
static __always_inline struct sock *sock_of_fd(s32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file *file = NULL;
	struct socket *socket;

	if (fd < 0 || (u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	/* A socket inode opened by path has no struct socket behind it. */
	if (!socket || BPF_CORE_READ(socket, file) != file)
		return NULL;
	return BPF_CORE_READ(socket, sk);
}

/* False: it is no connected TCP socket. */
static __always_inline bool session_bind(struct session *s, struct sock *sk, u8 how)
{
	if (!conn_fill(&s->context.conn, sk))
		return false;
	s->context.conn.how = how;
	s->sock = (u64)sk;
	return true;
}

/* At SSL_set_fd, and at later calls as long as the descriptor was not connected. */
static __always_inline void session_bind_fd(struct session *s)
{
	struct sock *sk = sock_of_fd(s->fd);

	if (sk)
		session_bind(s, sk, HOW_FD);
}

/* Whether `sk`, used inside `call`, is the session's although it isn't the one that is known. A callback of
 * the program may use another connection there. */
static __always_inline bool is_own(struct session *s, struct call *call, struct sock *sk)
{
	/* The descriptor says it. */
	if (s->fd >= 0)
		return sock_of_fd(s->fd) == sk;
	/* A read and a handshake begin with the library's own, a write ends with it. */
	if (call->dir != DIR_OUT && call->sockets & SOCKET_OWN)
		return false;
	/* A record has left by another: the library has none, and this is a callback's. */
	if (s->context.conn.how == HOW_RECORD)
		return s->sock == (u64)sk;
	if (s->context.conn.how != HOW_NESTED || call->sockets & SOCKET_BOUND)
		return true;
	/* Bound already: it was replaced only if a second call uses another, and the known one no more. */
	if (s->other_sock == (u64)sk && !(call->sockets & SOCKET_OTHER))
		return true;
	s->other_sock = (u64)sk;
	return false;
}

/* The thread moves bytes over `sk` in direction `dir`: if it is inside a library call of that direction, this
 * may be the session's socket. */
static __always_inline int witness(struct sock *sk, u32 dir)
{
	struct call *call = call_top();
	struct session_key key;
	struct session *s;

	if (!call)
		call = go_call_top();
	if (!call || (call->dir != dir && call->dir != DIR_BOTH))
		return 0;
	key = session_key(call->ssl);
	s = bpf_map_lookup_elem(&sessions, &key);
	if (!s)
		return 0;
	/* The port too, because the address of a struct sock is used again. */
	if (s->sock != (u64)sk || s->context.conn.how != HOW_NESTED ||
	    s->context.conn.local_port != BPF_CORE_READ(sk, __sk_common.skc_num)) {
		if (!is_own(s, call, sk)) {
			call->sockets |= SOCKET_OTHER;
			COUNT(socket_conflicts, 1);
			return 0;
		}
		if (!session_bind(s, sk, HOW_NESTED))
			return 0;
		call->sockets |= SOCKET_BOUND;
	}
	s->other_sock = 0;
	call->sockets |= SOCKET_OWN;
	return 0;
}

/* Kernel 6.3 and later; without the cost of a kprobe. */
SEC("raw_tp/sock_send_length")
int witness_send_tp(struct bpf_raw_tracepoint_args *ctx)
{
	return witness((struct sock *)ctx->args[0], DIR_OUT);
}

SEC("raw_tp/sock_recv_length")
int witness_recv_tp(struct bpf_raw_tracepoint_args *ctx)
{
	return witness((struct sock *)ctx->args[0], DIR_IN);
}

SEC("fentry/tcp_sendmsg")
int BPF_PROG(witness_send_fentry, struct sock *sk)
{
	return witness(sk, DIR_OUT);
}

SEC("fentry/tcp_recvmsg")
int BPF_PROG(witness_recv_fentry, struct sock *sk)
{
	return witness(sk, DIR_IN);
}

SEC("kprobe/tcp_sendmsg")
int BPF_KPROBE(witness_send_kprobe, struct sock *sk)
{
	return witness(sk, DIR_OUT);
}

SEC("kprobe/tcp_recvmsg")
int BPF_KPROBE(witness_recv_kprobe, struct sock *sk)
{
	return witness(sk, DIR_IN);
}

#endif
