/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Calls within rustls: what it writes, reads, encrypts and ends. `state` is &mut CommonState throughout. How
 * Rust lays out what is passed by address is not promised by anyone: it is checked as far as it can be, and
 * the tests run with real programs. */
#ifndef TLSDUMP_RUSTLS_CALLS_H
#define TLSDUMP_RUSTLS_CALLS_H

#define STEPS_MAX 8192 /* slices, and pieces of them, that are looked at in one write; the rest is lost */
#define STEPS_UNROLLED 64 /* the same without bpf_loop() */
#define POINTER_MIN 0x400000ULL /* where programs that can't be moved begin; lengths are less */
#define POINTER_MAX (1ULL << 47)

/* Functions whose result has no room in registers are told where to put it: on x86-64 by another argument
 * before all, on arm64 in a register of its own. */
#if defined(__TARGET_ARCH_x86)
#define RUST_RESULT(ctx) PT_REGS_PARM1(ctx)
#define RUST_PARM1(ctx) PT_REGS_PARM2(ctx)
#define RUST_PARM2(ctx) PT_REGS_PARM3(ctx)
#else
#define RUST_RESULT(ctx) (((const volatile struct user_pt_regs *)(ctx))->regs[8])
#define RUST_PARM1(ctx) PT_REGS_PARM1(ctx)
#define RUST_PARM2(ctx) PT_REGS_PARM2(ctx)
#endif

static __always_inline bool is_pointer(u64 word)
{
	return word >= POINTER_MIN && word < POINTER_MAX;
}

/* Vec<u8>, or an enum that has a slice instead: the capacity, which then is a number that none can be, the
 * address and the length; older compilers have the address first. */
static __always_inline u64 rust_bytes(const u64 words[3])
{
	if (words[2] >= POINTER_MIN)
		return 0;
	if (is_pointer(words[1]) && !is_pointer(words[0]))
		return words[1];
	return is_pointer(words[0]) && !is_pointer(words[1]) ? words[0] : 0;
}

static __always_inline struct rustls_thread *rustls_write(void *ctx, u64 sp, u64 state)
{
	struct rustls_thread *t = rustls_thread_wanted();

	if (!t)
		return NULL;
	t->write_sp = sp;
	t->write_state = state;
	t->write_ssl = rustls_find(state, rustls_encrypter(ctx, state));
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
		rustls_put(t->write_state, t->write_ssl);
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

/* f(state, Payload): CommonState::take_received_plaintext, with what is in one record, for the program to
 * read when it likes. */
SEC("uprobe")
int BPF_UPROBE(rustls_read, u64 state, u64 payload)
{
	struct call call = { .dir = DIR_IN };
	struct transfer transfer = {};
	u64 words[3] = {};
	u64 encrypter;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	bpf_probe_read_user(words, sizeof(words), (void *)payload);
	if (!words[2] || words[2] >= POINTER_MIN)
		return 0;
	encrypter = rustls_encrypter(ctx, state);
	call.ssl = rustls_at(encrypter);
	if (!call.ssl)
		call.ssl = rustls_take(ctx, state, encrypter ? encrypter : state);
	call.buf = rust_bytes(words);
	if (call.ssl && tls_account(ctx, &call, words[2], &transfer))
		transfer_send_record(&transfer);
	else
		chunk_lost(words[2]);
	return 0;
}

#endif
