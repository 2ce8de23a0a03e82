/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sockets: which one a descriptor is, and between which ends. */
#ifndef TLSDUMP_SOCK_H
#define TLSDUMP_SOCK_H

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_VSOCK 40
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262 /* several TCP connections: it has the addresses of the first */
#define S_IFMT 0170000
#define S_IFSOCK 0140000

static __always_inline u16 sock_protocol(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_protocol);
}

static __always_inline bool is_tcp(struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u16 protocol = sock_protocol(sk);

	return (family == AF_INET || family == AF_INET6) &&
	       (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

/* Fills the addresses from a connected TCP socket; false for one that is not connected, or closed on both
 * sides and has given up its port, though what was received can still be read. */
static __noinline bool conn_fill(struct conn_info *conn, struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u16 remote_port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	u16 local_port = BPF_CORE_READ(sk, __sk_common.skc_num);

	if (!remote_port || !local_port)
		return false;
	if (family == AF_INET) {
		__builtin_memset(conn->local, 0, sizeof(conn->local));
		__builtin_memset(conn->remote, 0, sizeof(conn->remote));
		BPF_CORE_READ_INTO((u32 *)conn->local, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((u32 *)conn->remote, sk, __sk_common.skc_daddr);
		conn->family = 4;
	} else {
		BPF_CORE_READ_INTO(&conn->local, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&conn->remote, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
		conn->family = 6;
	}
	conn->local_port = local_port;
	conn->remote_port = __builtin_bswap16(remote_port);
	conn->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	return true;
}

/* Whether `sk` has the ports that the session's socket had: the address of a struct sock is used again. */
static __always_inline bool has_ports(const struct conn_info *conn, struct sock *sk)
{
	if (!conn->family)
		return true;
	return conn->local_port == BPF_CORE_READ(sk, __sk_common.skc_num) &&
	       conn->remote_port == __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

/* The socket behind a file, or NULL. */
static __always_inline struct sock *sock_of_file(struct file *file)
{
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	/* A socket inode opened by path has no struct socket behind it. */
	if (!socket || BPF_CORE_READ(socket, file) != file)
		return NULL;
	return BPF_CORE_READ(socket, sk);
}

/* The socket behind a descriptor of the current process, or NULL. */
static __always_inline struct sock *sock_of_fd(s32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file *file = NULL;

	if (fd < 0 || (u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	return sock_of_file(file);
}

#endif
