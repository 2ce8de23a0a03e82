/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* CO-RE views of the few kernel structures that are read. Offsets are relocated at load against the
 * running kernel's BTF, so only names and types matter here; a field that some kernels lack stands in a
 * view of its own (`___name`) and is read behind bpf_core_field_exists(). */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };
#define BPF_F_CURRENT_CPU 0xffffffffULL

struct bpf_raw_tracepoint_args {
	__u64 args[2];
};

/* Only to ask whether the running kernel has these helpers. */
enum bpf_func_id___asked {
	BPF_FUNC_ringbuf_output___asked = 130, /* 5.8 */
	BPF_FUNC_get_attach_cookie___asked = 174, /* 5.15 */
	BPF_FUNC_task_pt_regs___asked = 175, /* 5.15 */
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	u64 regs[31], sp, pc, pstate;
};
struct pt_regs {
	struct user_pt_regs user_regs;
	u64 orig_x0;
	s32 syscallno;
};
#endif

struct ns_common {
	unsigned int inum;
};
struct ns_common___id {
	u64 ns_id;
};
struct mnt_namespace___id { /* since 6.18 */
	struct ns_common___id ns;
};
struct mnt_namespace {
	struct ns_common ns;
};
struct mnt_namespace___seq { /* until 6.17 */
	u64 seq;
};
struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

typedef struct {
	int counter;
} atomic_t;
struct signal_struct {
	atomic_t live; /* threads that have not exited */
};

struct inode {
	unsigned short i_mode;
};
struct file {
	struct inode *f_inode;
	void *private_data;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};

#if defined(__TARGET_ARCH_x86)
struct thread_struct {
	unsigned long fsbase;
};
#endif
struct task_struct {
	int tgid;
	u32 self_exec_id; /* of 64 bits since 5.7: the lower ones */
	void *stack;
#if defined(__TARGET_ARCH_x86)
	struct thread_struct thread;
#endif
	u64 start_time;
	char comm[16];
	struct task_struct *group_leader;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct files_struct *files;
};

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};
struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol; /* a bit field before 5.6: read with BPF_CORE_READ_BITFIELD_PROBED */
};
struct socket {
	struct file *file;
	struct sock *sk;
};
struct tcp_ulp_ops {
	char name[16];
};
struct inet_connection_sock {
	const struct tcp_ulp_ops *icsk_ulp_ops; /* since 4.13 */
};

struct sockaddr_un {
	char sun_path[108];
};
struct unix_address {
	int len; /* of name[0], its family included */
	struct sockaddr_un name[0];
};
struct unix_sock {
	struct unix_address *addr;
	struct unix_sock *peer;
};
struct sockaddr_vm {
	unsigned int svm_port;
	unsigned int svm_cid;
};
struct vsock_sock {
	struct sockaddr_vm remote_addr;
};

struct io_cqe {
	s32 fd;
};
struct io_rsrc_node { /* since 6.13 as it is here */
	unsigned long file_ptr; /* the lower bits are flags */
};
struct io_rsrc_data {
	unsigned int nr;
	struct io_rsrc_node **nodes;
};
struct io_fixed_file { /* until 6.12 */
	unsigned long file_ptr;
};
struct io_file_table {
	struct io_rsrc_data data;
};
struct io_file_table___files { /* until 6.12 */
	struct io_fixed_file *files;
};
struct io_ring_ctx {
	struct io_file_table file_table;
};
struct io_kiocb {
	struct file *file;
	u8 opcode;
	u64 flags;
	struct io_cqe cqe; /* since 5.19 */
	struct io_ring_ctx *ctx;
};
/* Both begin where io_kiocb does. */
struct io_sr_msg {
	void *buf;
	int len;
};
struct io_rw {
	u64 addr;
	u32 len;
};

#pragma clang attribute pop

#endif
