/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Goroutines: which one the thread runs, and the library calls that it is in. A goroutine can go on in
 * another thread within a call, and its stack can be moved; what stays is the address of its struct g, and
 * how far something is below the upper end of its stack. */
#ifndef TLSDUMP_GOROUTINE_H
#define TLSDUMP_GOROUTINE_H

#define GO_CALLS_MAX 32768 /* goroutines inside a call at one time */

struct goroutine_key {
	u64 g;
	u64 start_ns; /* of the process: the addresses are much the same in each run of a program */
	u32 pid;
	u32 execs; /* so many programs did the process run before */
};

struct goroutine {
	struct goroutine_key key;
	u64 lo, hi; /* bounds of its stack */
	u64 sp;
};

/* LRU, because a goroutine that dies in a call (at a panic, or with its process) is not seen to. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, GO_CALLS_MAX);
	__type(key, struct goroutine_key);
	__type(value, struct calls);
} go_calls SEC(".maps");

/* Whether `g` is a struct g whose stack holds `sp`: what runs there is that goroutine. The struct begins with
 * the bounds of the stack, which all code in assembly language relies on. */
static __always_inline bool goroutine_is(struct goroutine *go, u64 g)
{
	u64 bounds[2];

	if (!g || bpf_probe_read_user(bounds, sizeof(bounds), (void *)g))
		return false;
	go->lo = bounds[0];
	go->hi = bounds[1];
	go->key.g = g;
	return go->lo < go->sp && go->sp < go->hi;
}

/* Fills `go` for the current thread, whose register for g has that value. False: none runs, or it can't be
 * told. */
static __always_inline bool goroutine_fill(struct goroutine *go, u64 sp, u64 g_register)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	go->sp = sp;
	go->key.pid = bpf_get_current_pid_tgid() >> 32;
	go->key.execs = BPF_CORE_READ(task, self_exec_id);
	go->key.start_ns = BPF_CORE_READ(task, group_leader, start_time);
	if (goroutine_is(go, g_register))
		return true;
#if defined(__TARGET_ARCH_x86)
	/* Before Go 1.17 there was no such register; but the slot below the thread pointer is always kept. */
	u64 g = 0;

	bpf_probe_read_user(&g, sizeof(g), (void *)(BPF_CORE_READ(task, thread.fsbase) - 8));
	return goroutine_is(go, g);
#else
	return false;
#endif
}

#if defined(__TARGET_ARCH_x86)
#define GO_REGISTER(ctx) ((ctx)->r14)
#define USER_SP(user) BPF_CORE_READ(user, sp)
#define USER_GO_REGISTER(user) BPF_CORE_READ(user, r14)
#else
#define GO_REGISTER(ctx) (((const volatile struct user_pt_regs *)(ctx))->regs[28])
#define USER_SP(user) BPF_CORE_READ(user, user_regs.sp)
#define USER_GO_REGISTER(user) BPF_CORE_READ(user, user_regs.regs[28])
#endif

#define THREAD_SIZE 16384 /* of the kernel's own stack, unless it is built to find errors */

/* What the thread's registers were when it called the kernel. Should they be looked for at a wrong place, no
 * goroutine fits what is found. */
static __always_inline struct pt_regs *user_registers(void)
{
	struct task_struct *task;

	if (bpf_core_enum_value_exists(enum bpf_func_id___asked, BPF_FUNC_task_pt_regs___asked))
		return (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, stack) + THREAD_SIZE - bpf_core_type_size(struct pt_regs);
}

/* The innermost call of the goroutine that has called the kernel, or NULL. Asked at each use of a socket on
 * the machine: processes without sessions, which are most, are let go first. */
static __always_inline struct call *go_call_top(void)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct goroutine go = {};
	struct pt_regs *regs;

	if (!bpf_map_lookup_elem(&processes, &pid))
		return NULL;
	regs = user_registers();
	if (!goroutine_fill(&go, USER_SP(regs), USER_GO_REGISTER(regs)))
		return NULL;
	return calls_top(bpf_map_lookup_elem(&go_calls, &go.key));
}

static __always_inline void go_call_enter(const struct goroutine *go, const struct call *call)
{
	struct calls *c = bpf_map_lookup_elem(&go_calls, &go->key);

	if (!c) {
		bpf_map_update_elem(&go_calls, &go->key, &calls_zero, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&go_calls, &go->key);
	}
	if (c)
		calls_push(c, call);
	else
		COUNT(lost_calls, 1);
}

static __always_inline bool go_call_leave(const struct goroutine *go, u32 dir, struct call *call)
{
	struct calls *c = bpf_map_lookup_elem(&go_calls, &go->key);

	if (!c || !calls_pop(c, go->sp - go->hi, dir, call))
		return false;
	if (c->depth == 0)
		bpf_map_delete_elem(&go_calls, &go->key);
	return true;
}

#endif
