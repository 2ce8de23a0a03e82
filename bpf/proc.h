/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The end of threads and processes. */
#ifndef TLSDUMP_PROC_H
#define TLSDUMP_PROC_H

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
	struct exit_record record = {};

	bpf_map_delete_elem(&calls, &thread);
	if (pid == config.own_pid)
		learn_mntns(task);
	/* do_exit() counts the thread off before it runs the tracepoint. */
	if (BPF_CORE_READ(task, signal, live.counter) != 0 || !bpf_map_lookup_elem(&processes, &pid))
		return 0;
	bpf_map_delete_elem(&processes, &pid);
	record.header.size = sizeof(record);
	record.header.kind = RECORD_EXIT;
	record.at_ns = bpf_ktime_get_ns();
	task_fill(&record.task, task);
	if (emit(ctx, &record, sizeof(record)))
		COUNT(lost_records, 1);
	return 0;
}

#endif
