/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Calls that move data: one pair of programs for each call shape, whatever the library is called. */
#ifndef TLSDUMP_TLS_H
#define TLSDUMP_TLS_H

static __always_inline int tls_enter(void *ctx, u64 sp, u32 dir, void *ssl, const void *buf, void *out)
{
	struct call call = {
		.sp = sp, .ssl = (u64)ssl, .buf = (u64)buf, .out = (u64)out, .dir = dir,
		.at_ns = bpf_ktime_get_ns(),
	};
	struct session_key key = session_key((u64)ssl);

	if (!task_wanted((void *)bpf_get_current_task()) || !session_get(ctx, &key))
		return 0;
	call_enter(&call);
	return 0;
}

/* `len` bytes went over the session's connection: what is to be sent of them, and where it stands in the
 * stream. False: the session is forgotten. */
static __always_inline bool tls_account(void *ctx, const struct call *call, u64 len, struct transfer *t)
{
	struct session_key key = session_key(call->ssl);
	struct session *s = session_get(ctx, &key);

	if (!s)
		return false;
	if (s->context.conn.family == 0 && s->fd >= 0)
		session_bind_fd(ctx, s, call->ssl);
	s->ended = 0; /* alive, whatever was said of it: another reference is held */
	t->ctx = ctx;
	t->session = s;
	t->buf = call->buf;
	t->len = len;
	t->dir = call->dir;
	t->at_ns = call->dir == DIR_OUT ? call->at_ns : bpf_ktime_get_ns();
	t->offset = s->totals[call->dir & 1];
	s->totals[call->dir & 1] += len;
	COUNT(moved_bytes, len);
	return true;
}

/* Only now are the bytes known and readable: a call can move fewer than it was asked to, or none. */
static __always_inline int tls_moved(void *ctx, const struct call *call, u64 len, bool loop)
{
	struct transfer t = {};

	if (tls_account(ctx, call, len, &t))
		transfer_send(&t, loop);
	return 0;
}

/* int f(ssl, buf, int len): the number of bytes, or ≤ 0. */
static __always_inline int exit_int(struct pt_regs *ctx, u32 dir, bool loop)
{
	s32 moved = PT_REGS_RC(ctx);
	struct call call;

	if (!call_leave(RETURN_SP(ctx), dir, &call) || moved <= 0)
		return 0;
	return tls_moved(ctx, &call, moved, loop);
}

/* int f(ssl, buf, size_t len, size_t *out): 1, and the number of bytes in *out. */
static __always_inline int exit_out(struct pt_regs *ctx, u32 dir, bool loop)
{
	s32 result = PT_REGS_RC(ctx);
	struct call call;
	u64 moved = 0;

	if (!call_leave(RETURN_SP(ctx), dir, &call) || result != 1)
		return 0;
	if (bpf_probe_read_user(&moved, sizeof(moved), (void *)call.out) || moved == 0)
		return 0;
	return tls_moved(ctx, &call, moved, loop);
}

/* What GnuTLS returns when a write has to be made again: GNUTLS_E_AGAIN, GNUTLS_E_INTERRUPTED. */
#define AGAIN (-28)
#define INTERRUPTED (-52)

/* ssize_t f(ssl, buf, size_t len, …): the number of bytes, or negative. With `out` the number is that: the
 * function takes all or nothing, and its result is only a status. */
static __always_inline int exit_long(struct pt_regs *ctx, u32 dir, bool loop)
{
	s64 moved = PT_REGS_RC(ctx);
	struct call call;
	struct session_key key;
	struct session *s;

	if (!call_leave(RETURN_SP(ctx), dir, &call))
		return 0;
	if (call.out && moved >= 0)
		moved = call.out;
	key = session_key(call.ssl);
	s = dir == DIR_OUT ? session_find(&key) : NULL;
	if (s) {
		/* The next call may have no buffer, and mean this one's. */
		if (!call.buf)
			call.buf = s->retried;
		s->retried = moved == AGAIN || moved == INTERRUPTED ? call.buf : 0;
	}
	if (moved <= 0)
		return 0;
	return tls_moved(ctx, &call, moved, loop);
}

SEC("uprobe")
int BPF_UPROBE(enter_write_int, void *ssl, const void *buf)
{
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_OUT, ssl, buf, NULL);
}

SEC("uprobe")
int BPF_UPROBE(enter_read_int, void *ssl, const void *buf)
{
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_IN, ssl, buf, NULL);
}

SEC("uprobe")
int BPF_UPROBE(enter_write_out, void *ssl, const void *buf, u64 len, void *out)
{
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_OUT, ssl, buf, out);
}

SEC("uprobe")
int BPF_UPROBE(enter_read_out, void *ssl, const void *buf, u64 len, void *out)
{
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_IN, ssl, buf, out);
}

/* f(ssl, buf, size_t len, u64 flags, size_t *out): SSL_write_ex2. */
SEC("uprobe")
int BPF_UPROBE(enter_write_out_flags, void *ssl, const void *buf, u64 len, u64 flags, void *out)
{
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_OUT, ssl, buf, out);
}

/* f(ssl, buf, size_t len): takes all or nothing; gnutls_record_send_early_data. */
SEC("uprobe")
int BPF_UPROBE(enter_write_all, void *ssl, const void *buf, void *len)
{
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_OUT, ssl, buf, len);
}

/* f(ssl, …): what is written is in no buffer or in several; SSL_sendfile, s2n_sendv. Or it was written
 * before, and other calls inside this one are part of that: gnutls_record_uncork. Or it isn't the program's,
 * but shows the socket: gnutls_handshake. */
SEC("uprobe")
int BPF_UPROBE(enter_write_unseen, void *ssl)
{
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_OUT, ssl, NULL, NULL);
}

SEC("uretprobe")
int exit_flush(struct pt_regs *ctx)
{
	struct call call;

	call_leave(RETURN_SP(ctx), DIR_OUT, &call);
	return 0;
}

/* Each return program twice: with bpf_loop(), and for kernels without it. */
#define EXIT_PROGRAM(name, shape, dir)                 \
	SEC("uretprobe")                               \
	int name(struct pt_regs *ctx)                  \
	{                                              \
		return shape(ctx, dir, true);          \
	}                                              \
	SEC("uretprobe")                               \
	int name##_unrolled(struct pt_regs *ctx)       \
	{                                              \
		return shape(ctx, dir, false);         \
	}

EXIT_PROGRAM(exit_write_int, exit_int, DIR_OUT)
EXIT_PROGRAM(exit_read_int, exit_int, DIR_IN)
EXIT_PROGRAM(exit_write_out, exit_out, DIR_OUT)
EXIT_PROGRAM(exit_read_out, exit_out, DIR_IN)
EXIT_PROGRAM(exit_write_long, exit_long, DIR_OUT)
EXIT_PROGRAM(exit_read_long, exit_long, DIR_IN)

#endif
