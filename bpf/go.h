/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Probes on Go's crypto/tls. The session is the *tls.Conn: Go moves stacks about, but not what is on the
 * heap. Returns are probed at each RET instruction of a function: the kernel's return probes replace the
 * return address on the stack, which Go's runtime reads. */
#ifndef TLSDUMP_GO_H
#define TLSDUMP_GO_H

/* Where arguments and results are: in registers since Go 1.17 (the runtime's ABIInternal), above the return
 * address before. */
enum go_abi {
	GO_REGISTERS,
	GO_STACK,
};

/* Words of func (c *Conn) f(b []byte) (n int, err error). */
enum go_word {
	GO_RECEIVER = 0,
	GO_BUFFER = 1,
	GO_LENGTH = 2,
	GO_MOVED = 4, /* on the stack, behind the capacity; else in the first register */
};

/* Whether a function has its arguments on the stack still when it returns: those that came in registers in
 * the room that its caller leaves for them. User space has read its code to know (src/probe/go/code.rs). */
enum go_frame {
	GO_FORGETS,
	GO_KEEPS,
};

#if defined(__TARGET_ARCH_x86)
#define GO_FIRST(ctx) ((ctx)->ax)
#define GO_SECOND(ctx) ((ctx)->bx)
#else
#define GO_FIRST(ctx) (((const volatile struct user_pt_regs *)(ctx))->regs[0])
#define GO_SECOND(ctx) (((const volatile struct user_pt_regs *)(ctx))->regs[1])
#endif

static __always_inline u64 go_word(struct pt_regs *ctx, enum go_abi abi, enum go_word word)
{
	u64 value = 0;

	if (abi == GO_REGISTERS)
		return word == GO_BUFFER ? GO_SECOND(ctx) : GO_FIRST(ctx);
	bpf_probe_read_user(&value, sizeof(value), (void *)(PT_REGS_SP(ctx) + 8 + 8 * word));
	return value;
}

static __always_inline bool go_fill(struct goroutine *go, struct pt_regs *ctx)
{
	return goroutine_fill(go, PT_REGS_SP(ctx), GO_REGISTER(ctx));
}

/* A stack that grows does so at the beginning of a function, which then begins again: this may come twice for
 * one call, which the second time is at the same place of the moved stack. */
static __always_inline void go_call(struct goroutine *go, u64 conn, u64 buf, u32 dir)
{
	struct call call = {
		.sp = go->sp - go->hi, .ssl = conn, .buf = buf, .dir = dir,
		.at_ns = bpf_ktime_get_ns(),
	};

	/* A buffer on the stack moves with it. */
	if (buf >= go->lo && buf < go->hi) {
		call.buf -= go->hi;
		call.out = 1;
	}
	go_call_enter(go, &call);
}

static __always_inline int go_enter(struct pt_regs *ctx, enum go_abi abi, u32 dir)
{
	u64 conn = go_word(ctx, abi, GO_RECEIVER);
	struct session_key key = session_key(conn);
	struct goroutine go = {};

	if (!task_wanted((void *)bpf_get_current_task()) || !session_get(ctx, &key))
		return 0;
	if (go_fill(&go, ctx))
		go_call(&go, conn, go_word(ctx, abi, GO_BUFFER), dir);
	return 0;
}

/* A call that began before the capture, or was forgotten among too many. Most connections of a server have
 * one such, which waits for the next request. */
static __always_inline bool go_kept(struct pt_regs *ctx, u32 dir, u64 moved, struct call *call)
{
	call->dir = dir;
	call->ssl = go_word(ctx, GO_STACK, GO_RECEIVER);
	call->buf = go_word(ctx, GO_STACK, GO_BUFFER);
	call->at_ns = bpf_ktime_get_ns();
	call->out = 0;
	return call->ssl && call->buf && moved <= go_word(ctx, GO_STACK, GO_LENGTH);
}

static __always_inline int go_exit(struct pt_regs *ctx, enum go_abi abi, u32 dir, enum go_frame frame,
				   bool loop)
{
	__s64 moved = go_word(ctx, abi, GO_MOVED);
	struct goroutine go = {};
	struct call call;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	if (go_fill(&go, ctx) && go_call_leave(&go, dir, &call)) {
		if (call.out)
			call.buf += go.hi;
	} else if (moved > 0 && (frame == GO_FORGETS || !go_kept(ctx, dir, moved, &call))) {
		COUNT(lost_calls, 1);
		return 0;
	}
	if (moved <= 0)
		return 0;
	return tls_moved(ctx, &call, moved, loop);
}

/* Whether a handshake that begins on the session is another one in it (TLS 1.2 renegotiation, which Go does
 * as a client, and within a read). */
static __always_inline bool go_is_renegotiation(const struct session *s, const struct goroutine *go, u64 conn)
{
	struct calls *c = bpf_map_lookup_elem(&go_calls, &go->key);
	struct call *within;

	if (!c || c->depth == 0 || s->ended || !s->totals[DIR_OUT])
		return false;
	within = &c->frames[(c->depth - 1) & (CALL_DEPTH - 1)];
	return within->ssl == conn && within->dir == DIR_IN && s->context.conn.role == ROLE_CLIENT;
}

/* func (c *Conn) f(…): clientHandshake, serverHandshake. What was at this address before is gone, whether or
 * not its end was seen: the memory of a Conn is used again as the garbage collector likes. */
static __always_inline int go_handshake(struct pt_regs *ctx, enum go_abi abi, u8 role)
{
	u64 conn = go_word(ctx, abi, GO_RECEIVER);
	struct session_key key = session_key(conn);
	struct goroutine go = {};
	struct session *s;

	if (!task_wanted((void *)bpf_get_current_task()) || !go_fill(&go, ctx))
		return 0;
	s = session_find(&key);
	if (s && role == ROLE_CLIENT && go_is_renegotiation(s, &go, conn))
		return 0;
	if (s)
		session_tell_end(ctx, s, CLOSE_FREE);
	s = session_make(ctx, &key);
	if (!s)
		return 0;
	s->context.conn.role = role;
	go_call(&go, conn, 0, DIR_BOTH);
	return 0;
}

/* Each program for both ABIs. */
#define GO_PROGRAM(name, body, ...)                              \
	SEC("uprobe")                                            \
	int name(struct pt_regs *ctx)                            \
	{                                                        \
		return body(ctx, GO_REGISTERS, __VA_ARGS__);     \
	}                                                        \
	SEC("uprobe")                                            \
	int name##_stack(struct pt_regs *ctx)                    \
	{                                                        \
		return body(ctx, GO_STACK, __VA_ARGS__);         \
	}

GO_PROGRAM(go_enter_write, go_enter, DIR_OUT)
GO_PROGRAM(go_enter_read, go_enter, DIR_IN)
GO_PROGRAM(go_exit_write, go_exit, DIR_OUT, GO_FORGETS, true)
GO_PROGRAM(go_exit_read, go_exit, DIR_IN, GO_FORGETS, true)
GO_PROGRAM(go_exit_read_kept, go_exit, DIR_IN, GO_KEEPS, true)
GO_PROGRAM(go_exit_write_unrolled, go_exit, DIR_OUT, GO_FORGETS, false)
GO_PROGRAM(go_exit_read_unrolled, go_exit, DIR_IN, GO_FORGETS, false)
GO_PROGRAM(go_exit_read_kept_unrolled, go_exit, DIR_IN, GO_KEEPS, false)
GO_PROGRAM(go_client, go_handshake, ROLE_CLIENT)
GO_PROGRAM(go_server, go_handshake, ROLE_SERVER)

/* Nothing is moved, so the result does not matter. */
SEC("uprobe")
int go_exit_handshake(struct pt_regs *ctx)
{
	struct goroutine go = {};
	struct call call;

	if (task_wanted((void *)bpf_get_current_task()) && go_fill(&go, ctx))
		go_call_leave(&go, DIR_BOTH, &call);
	return 0;
}

static __always_inline int go_end(struct pt_regs *ctx, enum go_abi abi, u32 reason)
{
	return tls_end(ctx, (void *)go_word(ctx, abi, GO_RECEIVER), reason);
}

GO_PROGRAM(go_close, go_end, CLOSE_FREE)
GO_PROGRAM(go_close_write, go_end, CLOSE_SHUTDOWN)

#endif
