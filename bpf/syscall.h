/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the system call that the thread is in sends or receives: where it is in the program's memory. */
#ifndef TLSDUMP_SYSCALL_H
#define TLSDUMP_SYSCALL_H

#define VECTORS_MAX 4 /* pieces of one call that are looked at */

/* Numbers of system calls: asm/unistd_64.h, asm-generic/unistd.h. */
#if defined(__TARGET_ARCH_x86)
#define NR_READ 0
#define NR_WRITE 1
#define NR_READV 19
#define NR_WRITEV 20
#define NR_SENDTO 44
#define NR_RECVFROM 45
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#define NR_RECVMMSG 299
#define NR_SENDMMSG 307
#define SYSCALL_NR(regs) BPF_CORE_READ(regs, orig_ax)
#define SYSCALL_ARG2(regs) BPF_CORE_READ(regs, si)
#define SYSCALL_ARG3(regs) BPF_CORE_READ(regs, dx)
#else
#define NR_READ 63
#define NR_WRITE 64
#define NR_READV 65
#define NR_WRITEV 66
#define NR_SENDTO 206
#define NR_RECVFROM 207
#define NR_SENDMSG 211
#define NR_RECVMSG 212
#define NR_RECVMMSG 243
#define NR_SENDMMSG 269
#define SYSCALL_NR(regs) ((u64)BPF_CORE_READ(regs, syscallno))
#define SYSCALL_ARG2(regs) BPF_CORE_READ(regs, user_regs.regs[1])
#define SYSCALL_ARG3(regs) BPF_CORE_READ(regs, user_regs.regs[2])
#endif

/* struct iovec */
struct vector {
	u64 base, len;
};

/* Begins struct user_msghdr; of several messages (struct mmsghdr) the first. */
struct message {
	u64 name, name_len, vectors, count;
};

/* What a call moves: one piece of memory, or those of which `vectors` is the list. */
struct moving {
	struct vector one;
	u64 vectors; /* 0: it is `one` */
	u64 count;
};

/* `at` is the message of a call, if `is_message`, else its list of `count` pieces. */
static __always_inline bool moving_list(struct moving *m, u64 at, u64 count, bool is_message)
{
	struct message message;

	m->vectors = at;
	m->count = count;
	if (!is_message)
		return at && count;
	if (bpf_probe_read_user(&message, sizeof(message), (void *)at))
		return false;
	m->vectors = message.vectors;
	m->count = message.count;
	return m->vectors && m->count;
}

/* Piece number i; false where there is none. */
static __always_inline bool moving_piece(const struct moving *m, u32 i, struct vector *piece)
{
	if (i >= m->count)
		return false;
	if (m->vectors)
		return !bpf_probe_read_user(piece, sizeof(*piece), (void *)(m->vectors + i * sizeof(*piece)));
	*piece = m->one;
	return true;
}

/* Of the system call that the thread is in. False: it is none of those that move bytes in that direction. */
static __always_inline bool moving_of_syscall(struct moving *m, u32 dir)
{
	struct pt_regs *regs = user_registers();
	u64 nr = SYSCALL_NR(regs), at = SYSCALL_ARG2(regs), count = SYSCALL_ARG3(regs);
	bool out = dir == DIR_OUT;

	if (nr == (out ? NR_WRITE : NR_READ) || nr == (out ? NR_SENDTO : NR_RECVFROM)) {
		m->one.base = at;
		m->one.len = count;
		m->count = 1;
		return true;
	}
	if (nr == (out ? NR_WRITEV : NR_READV))
		return moving_list(m, at, count, false);
	if (nr == (out ? NR_SENDMSG : NR_RECVMSG) || nr == (out ? NR_SENDMMSG : NR_RECVMMSG))
		return moving_list(m, at, 0, true);
	return false;
}

#endif
