/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* GnuTLS without a copy: gnutls_record_recv_packet returns a packet that stays the library's, and
 * gnutls_packet_get tells later where its bytes are. Their place in the stream is that of the first call. */
#ifndef TLSDUMP_PACKET_H
#define TLSDUMP_PACKET_H

#define PACKETS_MAX 4096 /* read and not looked at yet */

struct packet {
	u64 ssl;
	u64 offset;
	u64 at_ns;
	u64 len;
};

/* By the place of the packet. LRU: of one that is neither looked at nor given back, nothing is told. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PACKETS_MAX);
	__type(key, struct session_key);
	__type(value, struct packet);
} packets SEC(".maps");

/* ssize_t f(ssl, packet *): the number of bytes, or negative. */
SEC("uprobe")
int BPF_UPROBE(enter_packet_read, void *ssl, void *at)
{
	return tls_enter(ctx, ENTRY_SP(ctx), DIR_IN, ssl, at, NULL);
}

SEC("uretprobe")
int exit_packet_read(struct pt_regs *ctx)
{
	s64 moved = PT_REGS_RC(ctx);
	struct packet packet = { .len = moved };
	struct transfer t = {};
	struct session_key key;
	struct call call;
	u64 at = 0;

	if (!call_leave(RETURN_SP(ctx), DIR_IN, &call) || moved <= 0)
		return 0;
	if (!tls_account(ctx, &call, moved, &t))
		return 0;
	packet.ssl = call.ssl;
	packet.offset = t.offset;
	packet.at_ns = t.at_ns;
	bpf_probe_read_user(&at, sizeof(at), (void *)call.buf);
	key = session_key(at);
	if (!at || bpf_map_update_elem(&packets, &key, &packet, BPF_ANY))
		chunk_lost(moved);
	return 0;
}

/* void f(packet, { u8 *bytes; unsigned int len; } *, …) */
SEC("uprobe")
int BPF_UPROBE(enter_packet_get, void *packet, void *datum)
{
	if (!datum)
		return 0;
	return name_enter(ctx, ENTRY_SP(ctx), packet, datum, NULL);
}

SEC("uretprobe")
int exit_packet_get(struct pt_regs *ctx)
{
	struct session_key at, key;
	struct packet *packet;
	struct transfer t = { .ctx = ctx, .dir = DIR_IN };
	struct call call;

	if (!call_leave(RETURN_SP(ctx), DIR_NONE, &call))
		return 0;
	at = session_key(call.ssl);
	packet = bpf_map_lookup_elem(&packets, &at);
	if (!packet) /* looked at before */
		return 0;
	bpf_probe_read_user(&t.buf, sizeof(t.buf), (void *)call.buf);
	t.len = packet->len;
	t.offset = packet->offset;
	t.at_ns = packet->at_ns;
	key = session_key(packet->ssl);
	t.session = session_find(&key);
	bpf_map_delete_elem(&packets, &at);
	if (t.session)
		transfer_send_record(&t);
	else
		chunk_lost(t.len);
	return 0;
}

/* void f(packet): gnutls_packet_deinit. */
SEC("uprobe")
int BPF_UPROBE(packet_free, void *at)
{
	struct session_key key = session_key((u64)at);
	struct packet *packet = bpf_map_lookup_elem(&packets, &key);

	if (!packet)
		return 0;
	chunk_lost(packet->len);
	bpf_map_delete_elem(&packets, &key);
	return 0;
}

#endif
