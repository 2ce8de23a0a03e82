/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Programs that the kernel runs with the struct sock in hand while a thread sends or receives. Inside a call
 * of the library that is how the session's socket is seen; but callbacks of the program use sockets there
 * too, so what moves must be a record of TLS. Outside, a record shows whose the socket is. A descriptor given
 * by SSL_set_fd has the last word. */
#ifndef TLSDUMP_WITNESS_H
#define TLSDUMP_WITNESS_H

#define STACK_NEAR (128 * 1024) /* a call's own socket is used no further down the stack */

/* Whether the kernel itself encrypts what is sent over `sk` (CONFIG_TLS): the program's bytes are no records
 * then, and nobody has such a socket but for TLS. */
static __always_inline bool is_kernel_tls(struct sock *sk)
{
	const struct tcp_ulp_ops *ulp;
	char name[4] = {};

	if (!bpf_core_field_exists(struct inet_connection_sock, icsk_ulp_ops) || !is_tcp(sk))
		return false;
	ulp = BPF_CORE_READ((struct inet_connection_sock *)sk, icsk_ulp_ops);
	if (!ulp || bpf_probe_read_kernel(name, sizeof(name), (void *)&ulp->name))
		return false;
	return name[0] == 't' && name[1] == 'l' && name[2] == 's' && !name[3];
}

/* Whether `len` bytes that the thread has received, or is sending, are TLS. */
static __always_inline bool is_tls(struct sock *sk, const struct moving *m, u64 len)
{
	struct vector piece;

	if (is_kernel_tls(sk))
		return true;
	if (!moving_piece(m, 0, &piece))
		return false;
	return record_begins(piece.base, piece.len < len ? piece.len : len);
}

/* Whether `sk`, used inside `call`, is the session's although it isn't the one that is known. */
static __always_inline bool is_own(struct session *s, struct call *call, struct sock *sk,
				   const struct moving *m, u64 len)
{
	/* The descriptor says it. */
	if (s->fd >= 0)
		return sock_of_fd(s->fd) == sk;
	/* This is a callback's: the library uses one socket, and it was seen. */
	if (call->sockets & SOCKET_OWN)
		return false;
	/* A record has left by another: the library has none. */
	if (s->context.conn.how == HOW_RECORD)
		return s->sock == (u64)sk;
	if (!is_tls(sk, m, len) || is_others(s, sk))
		return false;
	if (s->context.conn.how != HOW_NESTED)
		return true;
	/* Bound already: it was replaced only if a second call uses another, and the known one no more. */
	if (s->other_sock == (u64)sk && !(call->sockets & SOCKET_OTHER))
		return true;
	s->other_sock = (u64)sk;
	return false;
}

/* The call that the thread is within: the innermost of those on its stack. A program that has several stacks
 * in a thread can be inside calls on others. */
static __always_inline struct call *call_around(void)
{
	u64 thread = bpf_get_current_pid_tgid(), nearest = STACK_NEAR;
	struct calls *c = bpf_map_lookup_elem(&calls, &thread);
	u64 sp;
	u32 i;

	if (!c || c->depth == 0)
		return NULL;
	c->around = CALL_DEPTH;
	sp = USER_SP(user_registers());
	for (i = 0; i < CALL_DEPTH && i < c->depth; i++) {
		u64 above = c->frames[i].sp - sp;

		if (above <= nearest) {
			nearest = above;
			c->around = i;
		}
	}
	/* By way of the map, so that the verifier goes on with one pointer, not with one for each frame. */
	i = *(volatile u32 *)&c->around;
	return i < CALL_DEPTH ? &c->frames[i & (CALL_DEPTH - 1)] : NULL;
}

static __always_inline struct session *session_of_call(struct call *call)
{
	struct session_key key;

	if (!call)
		return NULL;
	key = session_key(call->ssl);
	return bpf_map_lookup_elem(&sessions, &key);
}

/* Whether `sk` is known to be the session's. */
static __always_inline bool is_known(struct session *s, struct sock *sk)
{
	return s->sock == (u64)sk && s->context.conn.how == HOW_NESTED && has_ports(&s->context.conn, sk);
}

/* Inside `call` the thread moves `len` bytes over `sk`. */
static __always_inline void witness_call(void *ctx, struct call *call, struct sock *sk,
					 const struct moving *m, u64 len)
{
	struct session *s = session_of_call(call);

	if (!s)
		return;
	if (!is_known(s, sk)) {
		if (!is_own(s, call, sk, m, len)) {
			call->sockets |= SOCKET_OTHER;
			COUNT(socket_conflicts, 1);
			return;
		}
		if (!session_bind(ctx, s, call->ssl, sk, HOW_NESTED))
			return;
	}
	s->other_sock = 0;
	call->sockets |= SOCKET_OWN;
}

/* The thread has moved `len` bytes over `sk`, or is about to. */
static __always_inline int witness(void *ctx, struct sock *sk, u32 dir, s64 len)
{
	struct call *call = call_top();
	struct moving m = {};
	struct session *s;
	bool awaiting, listening, is_go = false;
	u8 watched;

	if (len <= 0)
		return 0;
	if (!call) {
		call = go_call_top();
		is_go = true;
	}
	watched = watched_for();
	awaiting = dir == DIR_OUT && watched & WATCH_SENT;
	listening = dir == DIR_IN && watched;
	if (!call && !awaiting && !listening)
		return 0;
	s = session_of_call(call);
	/* Nearly always. */
	if (s && is_known(s, sk) && (s->record_seen || !awaiting)) {
		s->other_sock = 0;
		call->sockets |= SOCKET_OWN;
		return 0;
	}
	if (!is_go) {
		call = call_around();
		s = session_of_call(call);
	}
	if (!moving_of_syscall(&m, dir))
		m.count = 0;
	if (listening)
		received_by(sk, &m, len, watched & WATCH_RECEIVED);
	if (awaiting) {
		u64 session = records_leave(ctx, sk, &m);

		/* Another's record, passed on by a callback, says nothing of the call. */
		if (session && (!s || s->context.session != session))
			return 0;
	}
	if (!call || (call->dir != dir && call->dir != DIR_BOTH))
		return 0;
	witness_call(ctx, call, sk, &m, len);
	return 0;
}

/* Kernel 6.3 and later; without the cost of a kprobe. */
SEC("raw_tp/sock_send_length")
int witness_send_tp(struct bpf_raw_tracepoint_args *ctx)
{
	return witness(ctx, (struct sock *)ctx->args[0], DIR_OUT, (s32)ctx->args[1]);
}

SEC("raw_tp/sock_recv_length")
int witness_recv_tp(struct bpf_raw_tracepoint_args *ctx)
{
	return witness(ctx, (struct sock *)ctx->args[0], DIR_IN, (s32)ctx->args[1]);
}

SEC("fentry/tcp_sendmsg")
int BPF_PROG(witness_send_fentry, struct sock *sk, void *message, u64 size)
{
	return witness(ctx, sk, DIR_OUT, size);
}

/* What is received is there at the return, which stands after the arguments: five, and six until 5.18. */
SEC("fexit/tcp_recvmsg")
int BPF_PROG(witness_recv_fexit, struct sock *sk, void *message, u64 size, int flags, int *length,
	     int received)
{
	return witness(ctx, sk, DIR_IN, received);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(witness_recv_fexit_six, struct sock *sk, void *message, u64 size, int nonblock, int flags,
	     int *length, int received)
{
	return witness(ctx, sk, DIR_IN, received);
}

SEC("kprobe/tcp_sendmsg")
int BPF_KPROBE(witness_send_kprobe, struct sock *sk, void *message, u64 size)
{
	return witness(ctx, sk, DIR_OUT, size);
}

/* At the return the socket isn't told. */
SEC("kprobe/tcp_recvmsg")
int BPF_KPROBE(witness_recv_kprobe, struct sock *sk)
{
	struct call *call = call_top();

	if (!call)
		call = go_call_top();
	if (call)
		call->receives = (u64)sk;
	return 0;
}

SEC("kretprobe/tcp_recvmsg")
int witness_recv_kretprobe(struct pt_regs *ctx)
{
	struct call *call = call_top();
	u64 sk;

	if (!call)
		call = go_call_top();
	if (!call || !call->receives)
		return 0;
	sk = call->receives;
	call->receives = 0;
	return witness(ctx, (struct sock *)sk, DIR_IN, (s32)PT_REGS_RC(ctx));
}

#endif
