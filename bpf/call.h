/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Library calls that are under way: what was passed at the entry is needed at the return.
 * A thread can be inside several (TLS inside TLS: a proxy's session is written by the inner one's), so each
 * thread has a small stack of them. A call and its return belong together by the user stack pointer: two
 * calls that are both alive cannot have the same one, so a repeated entry (two probes on one call), or one
 * left by longjmp(), is overwritten, and a second return finds nothing. A hooked function that does its
 * work by another (LibreSSL's SSL_read_ex calls SSL_read) is one call, the outer; also where one of them has
 * no buffer (gnutls_record_uncork calls gnutls_record_send, s2n_send calls s2n_sendv). */
#ifndef TLSDUMP_CALL_H
#define TLSDUMP_CALL_H

#define CALL_DEPTH 4 /* a power of two */
#define CALLS_MAX 16384 /* threads inside a call at one time */

/* The return address was popped on x86-64, and never was on the stack on arm64. */
#if defined(__TARGET_ARCH_x86)
#define ENTRY_SP(ctx) (PT_REGS_SP(ctx))
#define RETURN_SP(ctx) (PT_REGS_SP(ctx) - 8)
#else
#define ENTRY_SP(ctx) (PT_REGS_SP(ctx))
#define RETURN_SP(ctx) (PT_REGS_SP(ctx))
#endif

#define DIR_NONE 2 /* a call that moves nothing */
#define DIR_SECRET 4 /* a derivation */
#define DIR_BOTH 3 /* a handshake: no plaintext, but the session's socket is used in both directions */

struct call {
	u64 sp; /* at the entry; 0: no call */
	u64 ssl;
	u64 buf; /* 0: none that the program knows */
	u64 out; /* where the function stores the number of bytes, or what else the return needs */
	u64 at_ns;
	u64 receives; /* the struct sock from which the thread is just receiving, where that is needed */
	u64 reads; /* where the library is just reading to from memory, where that is looked at */
	u32 dir;
	u32 sockets; /* bit set: which have been seen inside */
};

#define SOCKET_OWN 1 /* the session's */
#define SOCKET_OTHER 2

struct calls {
	struct call frames[CALL_DEPTH];
	u32 depth;
	u32 around; /* the frame that was looked for last */
};

/* Preallocated and not LRU: a call that blocks for hours must not be forgotten. Emptied at thread exit. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CALLS_MAX);
	__type(key, u64);
	__type(value, struct calls);
} calls SEC(".maps");

static const struct calls calls_zero = {};

/* The innermost of these calls, or NULL. */
static __always_inline struct call *calls_top(struct calls *c)
{
	if (!c || c->depth == 0)
		return NULL;
	return &c->frames[(c->depth - 1) & (CALL_DEPTH - 1)];
}

/* The innermost call that the thread is in, or NULL. */
static __always_inline struct call *call_top(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	return calls_top(bpf_map_lookup_elem(&calls, &thread));
}

/* Puts `call` on top of those that it is within. */
static __always_inline void calls_push(struct calls *c, const struct call *call)
{
	u32 depth = c->depth;

	for (u32 i = 0; i < CALL_DEPTH; i++) {
		struct call *outer = &c->frames[i];

		if (i >= c->depth)
			break;
		if (outer->sp == call->sp) {
			depth = i;
			break;
		}
		if (outer->ssl == call->ssl && outer->dir == call->dir && outer->sp > call->sp &&
		    (outer->buf == call->buf || !outer->buf || !call->buf))
			return;
	}
	if (depth >= CALL_DEPTH) {
		COUNT(lost_calls, 1);
		return;
	}
	c->frames[depth & (CALL_DEPTH - 1)] = *call;
	c->depth = depth + 1;
}

/* Takes the call that returns to `sp`, and those inside it that never returned. False: there is none. */
static __always_inline bool calls_pop(struct calls *c, u64 sp, u32 dir, struct call *call)
{
	for (u32 i = 0; i < CALL_DEPTH; i++) {
		if (i >= c->depth || c->frames[i].sp != sp || c->frames[i].dir != dir)
			continue;
		*call = c->frames[i];
		c->depth = i;
		return true;
	}
	return false;
}

static __always_inline void call_enter(const struct call *call)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct calls *c = bpf_map_lookup_elem(&calls, &thread);

	if (!c) {
		bpf_map_update_elem(&calls, &thread, &calls_zero, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&calls, &thread);
	}
	if (c)
		calls_push(c, call);
	else
		COUNT(lost_calls, 1);
}

/* Takes the thread's call that returns to `sp`. False: there is none, because the task is not wanted or
 * another probe on the same call has taken it. */
static __always_inline bool call_leave(u64 sp, u32 dir, struct call *call)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct calls *c = bpf_map_lookup_elem(&calls, &thread);

	if (!c || !calls_pop(c, sp, dir, call))
		return false;
	if (c->depth == 0)
		bpf_map_delete_elem(&calls, &thread);
	return true;
}

#endif
