/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sessions as the program begins, describes and ends them. */
#ifndef TLSDUMP_LIFE_H
#define TLSDUMP_LIFE_H

#define FD_MAX 0x7fffffff

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
	session_set_fd(ctx, s, key.ssl, fd);
	return 0;
}

/* f(ssl, void *): gnutls_transport_set_ptr. It is a descriptor if the library does the I/O itself, else
 * whatever the program's functions want. */
SEC("uprobe")
int BPF_UPROBE(set_pointer, void *ssl, u64 pointer)
{
	struct session_key key = session_key((u64)ssl);
	struct session *s;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	s = session_get(ctx, &key);
	if (!s)
		return 0;
	session_set_fd(ctx, s, key.ssl, pointer <= FD_MAX && sock_of_fd(pointer) ? pointer : -1);
	return 0;
}

/* f(ssl): SSL_clear. The object is to serve another connection: its BIOs, which it keeps, may be of one. Only
 * a descriptor goes on to tell which. */
SEC("uprobe")
int BPF_UPROBE(clear_session, void *ssl)
{
	struct session_key key = session_key((u64)ssl);
	struct session *s;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	s = session_find(&key);
	if (s && s->fd < 0)
		session_unbind(s);
	return 0;
}

/* What was at this address before is gone, whether or not its end was seen. */
static __always_inline struct session *tls_begin(void *ctx, u64 ssl)
{
	struct session_key key = session_key(ssl);
	struct session *s = session_find(&key);

	if (s)
		session_tell_end(ctx, s, CLOSE_FREE);
	return session_make(ctx, &key);
}

/* SSL *f(…) */
SEC("uretprobe")
int BPF_URETPROBE(new_session, void *ssl)
{
	if (ssl && task_wanted((void *)bpf_get_current_task()))
		tls_begin(ctx, (u64)ssl);
	return 0;
}

/* void f(ssl): mbedtls_ssl_init, and mbedtls_ssl_session_reset for another connection. */
SEC("uprobe")
int BPF_UPROBE(renew_session, void *ssl)
{
	if (task_wanted((void *)bpf_get_current_task()))
		tls_begin(ctx, (u64)ssl);
	return 0;
}

#define GNUTLS_SERVER 1
#define GNUTLS_CLIENT 2

/* int f(ssl *, unsigned flags): 0; gnutls_init. */
SEC("uprobe")
int BPF_UPROBE(enter_new_out, void *at, u32 flags)
{
	struct call call = { .sp = ENTRY_SP(ctx), .buf = (u64)at, .out = flags, .dir = DIR_NONE };

	if (task_wanted((void *)bpf_get_current_task()))
		call_enter(&call);
	return 0;
}

SEC("uretprobe")
int exit_new_out(struct pt_regs *ctx)
{
	s32 result = PT_REGS_RC(ctx);
	struct session *s;
	struct call call;
	u64 ssl = 0;

	if (!call_leave(RETURN_SP(ctx), DIR_NONE, &call) || result != 0)
		return 0;
	if (bpf_probe_read_user(&ssl, sizeof(ssl), (void *)call.buf) || !ssl)
		return 0;
	s = tls_begin(ctx, ssl);
	if (!s)
		return 0;
	if (call.out & GNUTLS_SERVER)
		s->context.conn.role = ROLE_SERVER;
	else if (call.out & GNUTLS_CLIENT)
		s->context.conn.role = ROLE_CLIENT;
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

/* void f(ssl), after which nobody has it. */
SEC("uprobe")
int BPF_UPROBE(close_session, void *ssl)
{
	struct session_key key = session_key((u64)ssl);
	struct session *s;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	s = session_find(&key);
	if (!s)
		return 0;
	session_tell_end(ctx, s, CLOSE_FREE);
	s->gone = 1;
	return 0;
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
