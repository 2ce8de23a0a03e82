/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Probes on C libraries: one pair of programs for each call shape, whatever the library is called. */
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

/* `len` bytes went over the session's connection. Only now are they known and readable: a call can move
 * fewer than it was asked to, or none. */
static __always_inline int tls_moved(void *ctx, const struct call *call, u64 len, bool loop)
{
	struct session_key key = session_key(call->ssl);
	struct session *s = session_get(ctx, &key);
	struct transfer t = { .ctx = ctx, .session = s, .buf = call->buf, .len = len, .dir = call->dir };

	if (!s)
		return 0;
	if (s->context.conn.family == 0 && s->fd >= 0)
		session_bind_fd(s);
	s->ended = 0; /* alive, whatever was said of it: another reference is held */
	t.at_ns = call->dir == DIR_OUT ? call->at_ns : bpf_ktime_get_ns();
	t.offset = s->totals[call->dir & 1];
	s->totals[call->dir & 1] += len;
	COUNT(moved_bytes, len);
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

/* f(ssl, int fd): SSL_set_fd, SSL_set_rfd, SSL_set_wfd. */
SEC("uprobe")
int BPF_UPROBE(set_fd, void *ssl, int fd)
{
	struct session_key key = session_key((u64)ssl);
	struct session *s;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	s = session_get(ctx, &key);
	if (!s)
		return 0;
	s->fd = fd;
	session_bind_fd(s);
	return 0;
}

/* SSL *f(…): what was at this address before is gone, whether or not its end was seen. */
SEC("uretprobe")
int BPF_URETPROBE(new_session, void *ssl)
{
	struct session_key key = session_key((u64)ssl);
	struct session *s;

	if (!ssl || !task_wanted((void *)bpf_get_current_task()))
		return 0;
	s = session_find(&key);
	if (s)
		session_tell_end(ctx, s, CLOSE_FREE);
	session_make(ctx, &key);
	return 0;
}

static __always_inline int tls_end(void *ctx, void *ssl, u32 reason)
{
	struct session_key key = session_key((u64)ssl);
	struct session *s;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	s = session_find(&key);
	if (s)
		session_tell_end(ctx, s, reason);
	return 0;
}

/* void f(ssl). The entry stays: the program may hold another reference, and its totals are read if records
 * were lost. */
SEC("uprobe")
int BPF_UPROBE(free_session, void *ssl)
{
	return tls_end(ctx, ssl, CLOSE_FREE);
}

SEC("uprobe")
int BPF_UPROBE(shutdown_session, void *ssl)
{
	return tls_end(ctx, ssl, CLOSE_SHUTDOWN);
}

static __always_inline int tls_role(void *ctx, void *ssl, u8 role)
{
	struct session_key key = session_key((u64)ssl);
	struct session *s;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	s = session_get(ctx, &key);
	if (s)
		s->context.conn.role = role;
	return 0;
}

/* f(ssl): SSL_connect, SSL_set_connect_state. */
SEC("uprobe")
int BPF_UPROBE(role_client, void *ssl)
{
	return tls_role(ctx, ssl, ROLE_CLIENT);
}

/* f(ssl): SSL_accept, SSL_set_accept_state. */
SEC("uprobe")
int BPF_UPROBE(role_server, void *ssl)
{
	return tls_role(ctx, ssl, ROLE_SERVER);
}

#endif
