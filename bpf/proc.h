/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Processes: from which another they come, and their end. */
#ifndef TLSDUMP_PROC_H
#define TLSDUMP_PROC_H

SEC("raw_tp/sched_process_fork")
int process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u32 parent = BPF_CORE_READ((struct task_struct *)ctx->args[0], tgid);
	u32 child = BPF_CORE_READ((struct task_struct *)ctx->args[1], tgid);
	u32 *before;

	if (parent == child) /* a thread */
		return 0;
	/* A parent without sessions of its own may stand between. */
	before = bpf_map_lookup_elem(&processes, &parent) ? &parent : bpf_map_lookup_elem(&forked, &parent);
	if (before)
		bpf_map_update_elem(&forked, &child, before, BPF_ANY);
	else
		bpf_map_delete_elem(&forked, &child); /* of an earlier process of that number */
	return 0;
}

/* Tells that all sessions of the current process are gone, if it had any. */
static __always_inline void process_end(void *ctx, u32 pid)
{
	struct exit_record record = {};
	u8 *lost;

	bpf_map_delete_elem(&forked, &pid);
	lost = bpf_map_lookup_elem(&processes, &pid);
	if (!lost)
		return;
	record.header.size = sizeof(record);
	record.header.kind = RECORD_EXIT;
	record.header.flags = *lost ? EXIT_LOST : 0;
	bpf_map_delete_elem(&processes, &pid);
	record.at_ns = bpf_ktime_get_ns();
	task_fill(&record.task, (void *)bpf_get_current_task());
	if (emit(ctx, &record, sizeof(record)))
		COUNT(lost_records, 1);
}

/* Another program in the same process: its memory, and the sessions in it, are new. */
SEC("raw_tp/sched_process_exec")
int process_exec(struct bpf_raw_tracepoint_args *ctx)
{
	process_end(ctx, bpf_get_current_pid_tgid() >> 32);
	return 0;
}

/* A thread of tlsdump itself that entered a wanted namespace shows its never-reused id by exiting: for
 * kernels that do not tell user space. Never overwrites an id that is known. */
static __always_inline void learn_mntns(struct task_struct *task)
{
	struct mntns ns = mntns_of(task);
	u64 *id = bpf_map_lookup_elem(&wanted_mntns, &ns.number);

	if (id && *id == 0)
		*id = ns.id;
}

SEC("raw_tp/sched_process_exit")
int thread_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 thread = bpf_get_current_pid_tgid();
	u32 pid = thread >> 32;

	bpf_map_delete_elem(&calls, &thread);
	if (pid == config.own_pid)
		learn_mntns(task);
	/* do_exit() counts the thread off before it runs the tracepoint. */
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		process_end(ctx, pid);
	return 0;
}

#endif
