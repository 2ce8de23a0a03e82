/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Names that the program and its library pass each other: the host asked for, the protocol agreed on. Seen
 * where the program asks or tells, which is once in a session; a probe on every record would be too dear. */
#ifndef TLSDUMP_NAME_H
#define TLSDUMP_NAME_H

#define SSL_CTRL_SET_TLSEXT_HOSTNAME 55

/* Tells, once in a session, a name of `len` bytes in the traced program; a longer one is cut. */
static __always_inline void name_send(void *ctx, u64 ssl, u32 what, u64 name, u64 len)
{
	struct session_key key = session_key(ssl);
	struct session *s = session_get(ctx, &key);
	struct scratch *scratch = s && !(s->named & (1 << what)) ? scratch_take() : NULL;
	struct name_record *record;

	if (!scratch)
		return;
	record = &scratch->name;
	if (len > NAME_BYTES_MAX)
		len = NAME_BYTES_MAX;
	record->context = s->context;
	record->context.header.kind = RECORD_NAME;
	record->context.header.size = sizeof(*record) + len;
	record->context.at_ns = bpf_ktime_get_ns();
	record->what = what;
	record->len = len;
	barrier_var(len); /* keep the bound where the verifier sees it */
	if (len && len <= NAME_BYTES_MAX && !bpf_probe_read_user(scratch->name_bytes, len, (void *)name)) {
		s->named |= 1 << what;
		if (emit(ctx, record, sizeof(*record) + len) == 0)
			s->context.number++;
		else
			COUNT(lost_records, 1);
	}
	scratch_give(scratch);
}

/* A name that ends with a NUL. */
static __always_inline void name_send_string(void *ctx, u64 ssl, u32 what, u64 name)
{
	struct scratch *scratch = scratch_take();
	long len;

	if (!scratch)
		return;
	len = bpf_probe_read_user_str(scratch->name_bytes, sizeof(scratch->name_bytes), (void *)name);
	scratch_give(scratch);
	if (len > 1)
		name_send(ctx, ssl, what, name, len - 1);
}

/* A call whose answer is looked at; it moves nothing, so it binds no socket. */
static __always_inline int name_enter(void *ctx, u64 sp, void *ssl, void *at, void *len_at)
{
	struct call call = {
		.sp = sp, .ssl = (u64)ssl, .buf = (u64)at, .out = (u64)len_at, .dir = DIR_NONE,
	};

	if (task_wanted((void *)bpf_get_current_task()))
		call_enter(&call);
	return 0;
}

/* The names that a program gives are read when the library has looked at them: a constant of the program may
 * not be in memory before. */

/* long f(ssl, int command, long, void *host): SSL_ctrl, as which SSL_set_tlsext_host_name is compiled. */
SEC("uprobe")
int BPF_UPROBE(enter_control, void *ssl, int command, long arg, void *host)
{
	return command == SSL_CTRL_SET_TLSEXT_HOSTNAME ? name_enter(ctx, ENTRY_SP(ctx), ssl, host, NULL) : 0;
}

/* f(ssl, const char *host): mbedtls_ssl_set_hostname. */
SEC("uprobe")
int BPF_UPROBE(enter_host_name, void *ssl, void *host)
{
	return name_enter(ctx, ENTRY_SP(ctx), ssl, host, NULL);
}

/* f(ssl, int type, const void *host, size_t len): gnutls_server_name_set; there is but one type. */
SEC("uprobe")
int BPF_UPROBE(enter_host_name_bytes, void *ssl, int type, void *host, void *len)
{
	return name_enter(ctx, ENTRY_SP(ctx), ssl, host, len);
}

SEC("uretprobe")
int exit_host_name(struct pt_regs *ctx)
{
	struct call call;

	if (!call_leave(RETURN_SP(ctx), DIR_NONE, &call) || !call.buf)
		return 0;
	if (call.out)
		name_send(ctx, call.ssl, NAME_SERVER, call.buf, call.out);
	else
		name_send_string(ctx, call.ssl, NAME_SERVER, call.buf);
	return 0;
}

/* const char *f(ssl, …): SSL_get_servername, as servers call it; mbedtls_ssl_get_alpn_protocol. */
SEC("uprobe")
int BPF_UPROBE(enter_name, void *ssl)
{
	return name_enter(ctx, ENTRY_SP(ctx), ssl, NULL, NULL);
}

static __always_inline int exit_string(struct pt_regs *ctx, u32 what)
{
	u64 name = PT_REGS_RC(ctx);
	struct call call;

	if (call_leave(RETURN_SP(ctx), DIR_NONE, &call) && name)
		name_send_string(ctx, call.ssl, what, name);
	return 0;
}

SEC("uretprobe")
int exit_server_name(struct pt_regs *ctx)
{
	return exit_string(ctx, NAME_SERVER);
}

SEC("uretprobe")
int exit_protocol_string(struct pt_regs *ctx)
{
	return exit_string(ctx, NAME_PROTOCOL);
}

/* The name is where the program said or, if not `direct`, where a pointer there leads; its length, of
 * `len_bytes` bytes, where the program said too. */
static __always_inline int exit_placed(struct pt_regs *ctx, u32 what, bool direct, u32 len_bytes, bool ok)
{
	struct call call;
	u64 name;
	u32 len = 0;

	if (!call_leave(RETURN_SP(ctx), DIR_NONE, &call) || !ok)
		return 0;
	name = call.buf;
	if (!direct && bpf_probe_read_user(&name, sizeof(name), (void *)call.buf))
		return 0;
	bpf_probe_read_user(&len, len_bytes, (void *)call.out);
	if (name && len)
		name_send(ctx, call.ssl, what, name, len);
	return 0;
}

/* void f(ssl, const u8 **name, unsigned int *len): SSL_get0_alpn_selected. */
SEC("uprobe")
int BPF_UPROBE(enter_placed, void *ssl, void *name, void *len)
{
	return name_enter(ctx, ENTRY_SP(ctx), ssl, name, len);
}

SEC("uretprobe")
int exit_protocol(struct pt_regs *ctx)
{
	return exit_placed(ctx, NAME_PROTOCOL, false, 4, true);
}

/* int f(ssl, char **name, unsigned short *len): 1; wolfSSL_ALPN_GetProtocol. */
SEC("uretprobe")
int exit_protocol_short(struct pt_regs *ctx)
{
	return exit_placed(ctx, NAME_PROTOCOL, false, 2, (s32)PT_REGS_RC(ctx) == 1);
}

/* int f(ssl, { u8 *name; unsigned int len; } *): 0; gnutls_alpn_get_selected_protocol. */
SEC("uprobe")
int BPF_UPROBE(enter_datum, void *ssl, void *datum)
{
	return name_enter(ctx, ENTRY_SP(ctx), ssl, datum, datum + 8);
}

SEC("uretprobe")
int exit_protocol_datum(struct pt_regs *ctx)
{
	return exit_placed(ctx, NAME_PROTOCOL, false, 4, (s32)PT_REGS_RC(ctx) == 0);
}

/* int f(ssl, char name[], size_t *len, …): 0; gnutls_server_name_get. */
SEC("uretprobe")
int exit_server_name_copied(struct pt_regs *ctx)
{
	return exit_placed(ctx, NAME_SERVER, true, 4, (s32)PT_REGS_RC(ctx) == 0);
}

SEC("uretprobe")
int exit_protocol_copied(struct pt_regs *ctx)
{
	return exit_placed(ctx, NAME_PROTOCOL, true, 4, (s32)PT_REGS_RC(ctx) == 0);
}

#endif
