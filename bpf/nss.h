/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* NSS. Programs read and write by NSPR's PR_Read and its like, as they do files; so not these are hooked but
 * the functions of NSS to which they lead for a TLS session (src/probe/nss.rs), whose first argument is the
 * session itself. The exported functions take a descriptor: a pile of layers, one of which holds the
 * session. */
#ifndef TLSDUMP_NSS_H
#define TLSDUMP_NSS_H

#define LAYERS_MAX 4 /* that are looked through, from the top */
#define PR_MSG_PEEK 2 /* prio.h */
#define PR_SHUTDOWN_RCV 0

/* Begins PRFileDesc (prio.h). */
struct nss_layer {
	u64 methods;
	u64 secret; /* what belongs to this layer: TLS's is the session */
	u64 lower;
};

/* The session of a descriptor: that of the first layer whose is known, else that of the top. 0: there is
 * none. */
static __always_inline u64 nss_session(u64 descriptor)
{
	struct nss_layer layer = {};
	u64 top = 0;

	for (u32 i = 0; i < LAYERS_MAX && descriptor; i++) {
		struct session_key key;

		if (bpf_probe_read_user(&layer, sizeof(layer), (void *)descriptor))
			break;
		key = session_key(layer.secret);
		if (bpf_map_lookup_elem(&sessions, &key))
			return layer.secret;
		if (i == 0)
			top = layer.secret;
		descriptor = layer.lower;
	}
	return top;
}

/* descriptor f(…): SSL_ImportFD; the layer that it adds is the top. */
SEC("uretprobe")
int BPF_URETPROBE(nss_import, void *descriptor)
{
	struct nss_layer layer = {};

	if (!descriptor || !task_wanted((void *)bpf_get_current_task()))
		return 0;
	if (!bpf_probe_read_user(&layer, sizeof(layer), descriptor) && layer.secret)
		tls_begin(ctx, layer.secret);
	return 0;
}

/* f(ssl, buf, int size, int flags): what is looked at ahead of time is read again. */
SEC("uprobe")
int BPF_UPROBE(enter_read_int_flags, void *ssl, const void *buf, int size, int flags)
{
	if (flags & PR_MSG_PEEK)
		return 0;
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_IN, ssl, buf, NULL);
}

/* f(ssl, int how) */
SEC("uprobe")
int BPF_UPROBE(nss_shutdown, void *ssl, int how)
{
	return how == PR_SHUTDOWN_RCV ? 0 : tls_end(ctx, ssl, CLOSE_SHUTDOWN);
}

static __always_inline int nss_role(void *ctx, u64 descriptor, u8 role)
{
	u64 ssl;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	ssl = nss_session(descriptor);
	return ssl ? tls_role(ctx, (void *)ssl, role) : 0;
}

/* f(descriptor, PRBool as_server): SSL_ResetHandshake. */
SEC("uprobe")
int BPF_UPROBE(nss_reset, void *descriptor, int as_server)
{
	return nss_role(ctx, (u64)descriptor, as_server ? ROLE_SERVER : ROLE_CLIENT);
}

/* Of SSLOption (ssl.h). */
#define SSL_HANDSHAKE_AS_CLIENT 5
#define SSL_HANDSHAKE_AS_SERVER 6

/* f(descriptor, int option, int on): SSL_OptionSet. */
SEC("uprobe")
int BPF_UPROBE(nss_option, void *descriptor, int option, int on)
{
	if (on && option == SSL_HANDSHAKE_AS_CLIENT)
		return nss_role(ctx, (u64)descriptor, ROLE_CLIENT);
	if (on && option == SSL_HANDSHAKE_AS_SERVER)
		return nss_role(ctx, (u64)descriptor, ROLE_SERVER);
	return 0;
}

/* f(descriptor, const char *host): SSL_SetURL. */
SEC("uprobe")
int BPF_UPROBE(enter_nss_host_name, void *descriptor, void *host)
{
	u64 ssl;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	ssl = nss_session((u64)descriptor);
	return ssl ? name_enter(ctx, ENTRY_SP(ctx), (void *)ssl, host, NULL) : 0;
}

/* int f(descriptor, state *, u8 name[], unsigned int *len, …): 0; SSL_GetNextProto. */
SEC("uprobe")
int BPF_UPROBE(enter_nss_protocol, void *descriptor, void *state, void *name, void *len)
{
	u64 ssl;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	ssl = nss_session((u64)descriptor);
	return ssl ? name_enter(ctx, ENTRY_SP(ctx), (void *)ssl, name, len) : 0;
}

#endif
