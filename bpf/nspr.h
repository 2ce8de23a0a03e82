/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* NSPR, through which programs use NSS: PR_Read and its like serve files and sockets of every kind. Only a
 * descriptor that SSL_ImportFD has given a TLS layer is a session. A layer that is pushed on top later takes
 * the place in memory of what is below it (PR_PushIOLayer), so the program's descriptor stays the same. */
#ifndef TLSDUMP_NSPR_H
#define TLSDUMP_NSPR_H

#define PR_DESC_LAYERED 4 /* PRDescType of prio.h: made of layers, not a file or a bare socket */
#define PR_MSG_PEEK 2

/* Begins PRFileDesc, and PRIOMethods. */
struct nspr_descriptor {
	u64 methods;
};
struct nspr_methods {
	u32 type;
};

/* The session of a descriptor, or NULL, after one look into a map, for files. NSPR makes the next descriptor
 * where one was closed: a session that has ended is none, and what has no layers isn't its. */
static __always_inline struct session *nspr_session(u64 fd)
{
	struct session_key key = session_key(fd);
	struct session *s = bpf_map_lookup_elem(&sessions, &key);
	struct nspr_descriptor descriptor;
	struct nspr_methods methods;

	if (!s || s->ended & (1 << CLOSE_FREE) || !session_find(&key))
		return NULL;
	if (bpf_probe_read_user(&descriptor, sizeof(descriptor), (void *)fd) ||
	    bpf_probe_read_user(&methods, sizeof(methods), (void *)descriptor.methods))
		return NULL;
	return methods.type == PR_DESC_LAYERED ? s : NULL;
}

static __always_inline int nspr_enter(void *ctx, u64 sp, u32 dir, void *fd, const void *buf)
{
	struct session *s = nspr_session((u64)fd);

	if (!s || s->plain)
		return 0;
	return tls_enter(ctx, sp, dir, fd, buf, NULL);
}

/* PRInt32 f(fd, buf, PRInt32 len, …): PR_Write, PR_Send. */
SEC("uprobe")
int BPF_UPROBE(enter_write_nspr, void *fd, const void *buf)
{
	return nspr_enter(ctx, ENTRY_SP(ctx), DIR_OUT, fd, buf);
}

/* PRInt32 f(fd, …): PR_Writev. */
SEC("uprobe")
int BPF_UPROBE(enter_write_nspr_unseen, void *fd)
{
	return nspr_enter(ctx, ENTRY_SP(ctx), DIR_OUT, fd, NULL);
}

/* PRInt32 f(fd, buf, PRInt32 size): PR_Read. */
SEC("uprobe")
int BPF_UPROBE(enter_read_nspr, void *fd, const void *buf)
{
	return nspr_enter(ctx, ENTRY_SP(ctx), DIR_IN, fd, buf);
}

/* PRInt32 f(fd, buf, PRInt32 size, PRIntn flags, …): PR_Recv. */
SEC("uprobe")
int BPF_UPROBE(enter_recv_nspr, void *fd, const void *buf, int size, int flags)
{
	if (flags & PR_MSG_PEEK)
		return 0;
	return nspr_enter(ctx, ENTRY_SP(ctx), DIR_IN, fd, buf);
}

/* f(fd): PR_Close. */
SEC("uprobe")
int BPF_UPROBE(close_nspr, void *fd)
{
	if (!nspr_session((u64)fd))
		return 0;
	return tls_end(ctx, fd, CLOSE_FREE);
}

/* f(fd, PRBool as_server): SSL_ResetHandshake. */
SEC("uprobe")
int BPF_UPROBE(role_nspr, void *fd, int as_server)
{
	return tls_role(ctx, fd, as_server ? ROLE_SERVER : ROLE_CLIENT);
}

/* SSLOption of ssl.h. */
#define SSL_SECURITY 1
#define SSL_HANDSHAKE_AS_CLIENT 5
#define SSL_HANDSHAKE_AS_SERVER 6

/* f(fd, int option, int on): SSL_OptionSet. Without SSL_SECURITY the layer lets bytes through as they are, as
 * before STARTTLS. */
SEC("uprobe")
int BPF_UPROBE(option_nspr, void *fd, int option, int on)
{
	struct session *s;

	if (option == SSL_HANDSHAKE_AS_CLIENT && on)
		return tls_role(ctx, fd, ROLE_CLIENT);
	if (option == SSL_HANDSHAKE_AS_SERVER && on)
		return tls_role(ctx, fd, ROLE_SERVER);
	s = option == SSL_SECURITY ? nspr_session((u64)fd) : NULL;
	if (s)
		s->plain = !on;
	return 0;
}

#endif
