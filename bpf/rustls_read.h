/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What rustls has received, for the program to read when it likes. */
#ifndef TLSDUMP_RUSTLS_READ_H
#define TLSDUMP_RUSTLS_READ_H

/* The first word of a MessagePayload, where it is none of its largest variant. */
#define OTHER_VARIANT(word) ((word) > 1ULL << 63 && (word) < (1ULL << 63) + 16)

/* Whether another probe at the same place has told of that call. There is no return by which that would be
 * seen, but the same probe comes first each time. */
static __always_inline bool rustls_is_told(void *ctx, u64 sp, u64 at, u64 len)
{
	struct rustls_thread *t = rustls_thread_wanted();
	u32 library = library_of(ctx);

	if (!t)
		return false;
	if (t->read_sp == sp && t->read == at && t->read_len == len && t->read_library != library)
		return true;
	t->read_sp = sp;
	t->read = at;
	t->read_len = len;
	t->read_library = library;
	return false;
}

/* Result f(Box<Self>, &mut Context, Message): ExpectTraffic::handle takes a record's data, or a message about
 * keys, which is of the largest variant. The context refers to the state first. */
static __always_inline int rustls_read(struct pt_regs *ctx, u8 role)
{
	struct call call = { .dir = DIR_IN };
	struct transfer transfer = {};
	u64 words[4] = {};
	u64 encrypter, state = 0;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	bpf_probe_read_user(words, sizeof(words), (void *)RUST_PARM3(ctx));
	bpf_probe_read_user(&state, sizeof(state), (void *)RUST_PARM2(ctx));
	if (!OTHER_VARIANT(words[0]))
		rustls_may_renew(ctx, state);
	if (!OTHER_VARIANT(words[0]) || !words[3] || words[3] >= POINTER_MIN)
		return 0;
	call.buf = rust_bytes(words + 1);
	if (!call.buf) { /* another variant, or they lie in another way */
		COUNT(lost_calls, 1);
		return 0;
	}
	if (rustls_is_told(ctx, ENTRY_SP(ctx), call.buf, words[3]))
		return 0;
	encrypter = rustls_encrypter(ctx, state);
	call.ssl = rustls_at(encrypter);
	if (!call.ssl)
		call.ssl = rustls_take(ctx, state, encrypter ? encrypter : state);
	if (!call.ssl || !tls_account(ctx, &call, words[3], &transfer)) {
		chunk_lost(words[3]);
		return 0;
	}
	transfer.session->context.conn.role = role;
	transfer_send_record(&transfer);
	return 0;
}

SEC("uprobe")
int rustls_read_client(struct pt_regs *ctx)
{
	return rustls_read(ctx, ROLE_CLIENT);
}

SEC("uprobe")
int rustls_read_server(struct pt_regs *ctx)
{
	return rustls_read(ctx, ROLE_SERVER);
}

#endif
