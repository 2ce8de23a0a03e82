/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What programs write through rustls. `state` is &mut CommonState here and in what follows. */
#ifndef TLSDUMP_RUSTLS_WRITE_H
#define TLSDUMP_RUSTLS_WRITE_H

#define STEPS_MAX 8192 /* slices, and pieces of them, that are looked at in one write; the rest is lost */
#define STEPS_UNROLLED 64 /* the same without bpf_loop() */

static __always_inline struct rustls_thread *rustls_write(void *ctx, u64 sp, u64 state)
{
	struct rustls_thread *t = rustls_thread_wanted();

	if (!t)
		return NULL;
	t->write_sp = sp;
	t->write_state = state;
	t->write_ssl = rustls_at(rustls_encrypter(ctx, state));
	if (!t->write_ssl)
		t->write_ssl = rustls_without_keys(state);
	t->write_ns = bpf_ktime_get_ns();
	t->left = t->skip = t->here = 0;
	return t;
}

/* usize f(state, &[u8]): CommonState::send_some_plaintext, up to rustls 0.22. */
SEC("uprobe")
int BPF_UPROBE(rustls_enter_write_slice, u64 state, u64 bytes, u64 len)
{
	struct rustls_thread *t = rustls_write(ctx, ENTRY_SP(ctx), state);

	if (!t)
		return 0;
	t->at = bytes;
	t->here = len;
	return 0;
}

/* usize f(state, OutboundChunks, …): CommonState::buffer_plaintext. Either of
 * Single(&[u8]), whose first word is 0, and Multiple { chunks: &[&[u8]], start, end }. */
SEC("uprobe")
int BPF_UPROBE(rustls_enter_write_chunks, u64 state, u64 chunks)
{
	struct rustls_thread *t = rustls_write(ctx, ENTRY_SP(ctx), state);
	u64 words[4] = {};

	if (!t)
		return 0;
	/* Now, as the function may use the room for something else. */
	bpf_probe_read_user(words, sizeof(words), (void *)chunks);
	if (words[0]) {
		t->next = words[0];
		t->left = words[1];
		t->skip = words[2];
	} else {
		t->at = words[1];
		t->here = words[2];
	}
	return 0;
}

/* A write: what changes from step to step is in a map, of which the verifier expects nothing. */
struct written {
	struct transfer transfer;
	struct rustls_thread *thread;
};

struct slice {
	u64 at, len;
};

/* Goes on to the next slice, or sends a piece of this one. 1: there is no more. */
static long written_step(u32 i, struct written *w)
{
	struct rustls_thread *t = w->thread;
	struct slice slice = {};
	u64 step;

	if (!t->bytes)
		return 1;
	if (!t->here) {
		if (!t->left || bpf_probe_read_user(&slice, sizeof(slice), (void *)t->next))
			return 1;
		step = t->skip < slice.len ? t->skip : slice.len;
		t->skip -= step;
		t->at = slice.at + step;
		t->here = slice.len - step;
		t->next += sizeof(slice);
		t->left--;
		return 0;
	}
	step = t->here < t->bytes ? t->here : t->bytes;
	if (step > CHUNK_BYTES)
		step = CHUNK_BYTES;
	w->transfer.buf = t->at;
	w->transfer.len = step;
	w->transfer.offset = t->offset;
	t->offset += step;
	t->at += step;
	t->here -= step;
	t->bytes -= step;
	chunk_send(0, &w->transfer);
	return 0;
}

static __always_inline int rustls_written(struct pt_regs *ctx, bool loop)
{
	u64 moved = PT_REGS_RC(ctx);
	struct written w = { .thread = rustls_thread() };
	struct rustls_thread *t = w.thread;
	struct call call = { .dir = DIR_OUT };

	if (!t || t->write_sp != RETURN_SP(ctx))
		return 0;
	t->write_sp = 0;
	if (!moved)
		return 0;
	/* Nothing was encrypted: it is kept until the handshake is done. */
	if (!t->write_ssl) {
		t->write_ssl = rustls_make(ctx);
		rustls_put(t->write_state, t->write_ssl, 0);
	}
	call.ssl = t->write_ssl;
	call.buf = t->left ? t->next : t->at;
	call.at_ns = t->write_ns;
	if (!call.ssl || !tls_account(ctx, &call, moved, &w.transfer)) {
		chunk_lost(moved);
		return 0;
	}
	t->bytes = moved;
	t->offset = w.transfer.offset;
	if (!transfer_begin(&w.transfer))
		return 0;
	if (loop) {
		bpf_loop(STEPS_MAX, written_step, &w, 0);
	} else {
		for (u32 i = 0; i < STEPS_UNROLLED; i++)
			if (written_step(i, &w))
				break;
	}
	scratch_give(w.transfer.scratch);
	if (t->bytes)
		chunk_lost(t->bytes);
	return 0;
}

SEC("uretprobe")
int rustls_exit_write(struct pt_regs *ctx)
{
	return rustls_written(ctx, true);
}

SEC("uretprobe")
int rustls_exit_write_unrolled(struct pt_regs *ctx)
{
	return rustls_written(ctx, false);
}

#endif
