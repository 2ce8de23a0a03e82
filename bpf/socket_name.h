/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sessions that are not on TCP: the name of the socket that they are on. */
#ifndef TLSDUMP_SOCKET_NAME_H
#define TLSDUMP_SOCKET_NAME_H

#define SUN_PATH_AT 2 /* in struct sockaddr_un */

/* Reads the path of a UNIX socket, or what stands for one: the name in the abstract namespace, which begins
 * with 0. One end has it, that which listened or comes from one that did: the process's own if it has a name,
 * else its peer's. Gives the number of bytes; 0: no name. */
static __always_inline u64 unix_name(u8 to[SUN_PATH_BYTES], struct sock *sk)
{
	struct unix_address *address = BPF_CORE_READ((struct unix_sock *)sk, addr);
	u64 len;

	if (!address)
		address = BPF_CORE_READ((struct unix_sock *)sk, peer, addr);
	if (!address)
		return 0;
	len = (u64)(u32)BPF_CORE_READ(address, len) - SUN_PATH_AT;
	if (len == 0 || len > SUN_PATH_BYTES)
		return 0;
	barrier_var(len); /* keep the bound where the verifier sees it */
	if (len > SUN_PATH_BYTES || bpf_probe_read_kernel(to, len, (void *)&address->name[0].sun_path))
		return 0;
	return len;
}

/* Fills what is told of `sk`, and gives the number of bytes. */
static __always_inline u64 socket_name(struct socket_name *name, struct sock *sk)
{
	name->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	name->protocol = sock_protocol(sk);
	if (name->family == AF_UNIX)
		return SOCKET_NAME_BYTES + unix_name(name->path, sk);
	if (name->family == AF_VSOCK && bpf_core_type_exists(struct vsock_sock)) {
		name->vsock.cid = BPF_CORE_READ((struct vsock_sock *)sk, remote_addr.svm_cid);
		name->vsock.port = BPF_CORE_READ((struct vsock_sock *)sk, remote_addr.svm_port);
		return SOCKET_NAME_BYTES + sizeof(name->vsock);
	}
	return SOCKET_NAME_BYTES;
}

/* Tells it, once for each socket of a session. */
static __noinline int socket_tell(void *ctx, struct session *s, struct sock *sk)
{
	struct scratch *scratch = s->named & (1 << NAME_SOCKET) ? NULL : scratch_take();
	struct name_record *record;
	u64 len;

	if (!scratch)
		return 0;
	record = &scratch->name;
	record->context = s->context;
	record->context.header.kind = RECORD_NAME;
	record->context.at_ns = bpf_ktime_get_ns();
	record->what = NAME_SOCKET;
	len = socket_name((struct socket_name *)scratch->name_bytes, sk);
	record->len = len;
	record->context.header.size = sizeof(*record) + len;
	barrier_var(len);
	if (len <= sizeof(struct socket_name)) {
		s->named |= 1 << NAME_SOCKET;
		if (emit(ctx, record, sizeof(*record) + len) == 0)
			s->context.number++;
		else
			COUNT(lost_records, 1);
	}
	scratch_give(scratch);
	return 0;
}

#endif
