/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* How functions of Rust have their arguments and results, and how some types lie in memory. Nobody promises
 * that: what is read is checked as far as it can be, and the tests run with real programs. */
#ifndef TLSDUMP_RUST_H
#define TLSDUMP_RUST_H

#define POINTER_MIN 0x400000ULL /* where programs that can't be moved begin; lengths are less */
#define POINTER_MAX (1ULL << 47)

/* Functions whose result has no room in registers are told where to put it: on x86-64 by another argument
 * before all, on arm64 in a register of its own. */
#if defined(__TARGET_ARCH_x86)
#define RUST_RESULT(ctx) PT_REGS_PARM1(ctx)
#define RUST_PARM1(ctx) PT_REGS_PARM2(ctx)
#define RUST_PARM2(ctx) PT_REGS_PARM3(ctx)
#define RUST_PARM3(ctx) PT_REGS_PARM4(ctx)
#else
#define RUST_RESULT(ctx) (((const volatile struct user_pt_regs *)(ctx))->regs[8])
#define RUST_PARM1(ctx) PT_REGS_PARM1(ctx)
#define RUST_PARM2(ctx) PT_REGS_PARM2(ctx)
#define RUST_PARM3(ctx) PT_REGS_PARM3(ctx)
#endif

static __always_inline bool is_pointer(u64 word)
{
	return word >= POINTER_MIN && word < POINTER_MAX;
}

/* Vec<u8>, or Payload, an enum that can have a slice instead: the capacity, which then is a number that none
 * can be, the address and the length; older compilers have the address first. */
static __always_inline u64 rust_bytes(const u64 words[3])
{
	if (words[2] >= POINTER_MIN)
		return 0;
	if (is_pointer(words[1]) && !is_pointer(words[0]))
		return words[1];
	return is_pointer(words[0]) && !is_pointer(words[1]) ? words[0] : 0;
}

#endif
