/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Secrets of sessions of Go's crypto/tls: one function gets each with its label. */
#ifndef TLSDUMP_GO_SECRET_H
#define TLSDUMP_GO_SECRET_H

/* Words of func (c *Config) writeKeyLog(label string, clientRandom, secret []byte) error, but those that tell
 * how large things may become. */
enum go_secret_word {
	GO_LABEL = 1,
	GO_LABEL_LENGTH,
	GO_RANDOM,
	GO_RANDOM_LENGTH,
	GO_SECRET = 6,
	GO_SECRET_LENGTH,
	GO_SECRET_WORDS,
};

/* Arguments are in registers in this order: internal/abi.IntArgRegs of Go. */
static __always_inline void go_registers(struct pt_regs *ctx, u64 words[GO_SECRET_WORDS])
{
#if defined(__TARGET_ARCH_x86)
	words[0] = ctx->ax;
	words[1] = ctx->bx;
	words[2] = ctx->cx;
	words[3] = ctx->di;
	words[4] = ctx->si;
	words[5] = ctx->r8;
	words[6] = ctx->r9;
	words[7] = ctx->r10;
#else
	for (u32 i = 0; i < GO_SECRET_WORDS; i++)
		words[i] = ((const volatile struct user_pt_regs *)ctx)->regs[i];
#endif
}

/* The function that writes the key log, which is called even when there is none. It knows no session: that is
 * the one of the handshake that the goroutine is in. */
static __always_inline int go_key_log(struct pt_regs *ctx, enum go_abi abi, u32 unused)
{
	u64 words[GO_SECRET_WORDS] = {};
	struct goroutine go = {};
	struct call *within;
	u32 what;

	if (!task_wanted((void *)bpf_get_current_task()) || !go_fill(&go, ctx))
		return 0;
	within = calls_top(bpf_map_lookup_elem(&go_calls, &go.key));
	if (!within)
		return 0;
	if (abi == GO_REGISTERS)
		go_registers(ctx, words);
	else
		bpf_probe_read_user(words, sizeof(words), (void *)(PT_REGS_SP(ctx) + 8));
	what = line_kind(words[GO_LABEL], words[GO_LABEL_LENGTH]);
	if (what && words[GO_RANDOM_LENGTH] == RANDOM_BYTES)
		secret_send(ctx, within->ssl, what, words[GO_SECRET], words[GO_SECRET_LENGTH],
			    words[GO_RANDOM]);
	return 0;
}

GO_PROGRAM(go_secret, go_key_log, 0)

#endif
