/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which tasks are wanted. The first thing that every probe asks: what this refuses is never read. */
#ifndef TLSDUMP_FILTER_H
#define TLSDUMP_FILTER_H

#define WANTED_MAX 4096 /* entries of each set */

/* Mount namespace number → its never-reused id; 0: not known yet, the number alone decides. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WANTED_MAX);
	__type(key, u32);
	__type(value, u64);
} wanted_mntns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WANTED_MAX);
	__type(key, u32);
	__type(value, u8);
} wanted_pid SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WANTED_MAX);
	__type(key, u32);
	__type(value, u8);
} wanted_uid SEC(".maps");

struct comm_key {
	char name[COMM_BYTES]; /* padded with zeros */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WANTED_MAX);
	__type(key, struct comm_key);
	__type(value, u8);
} wanted_comm SEC(".maps");

struct mntns {
	u32 number;
	u64 id;
};

/* 0/0 for a task that is past exit_task_namespaces(). */
static __always_inline struct mntns mntns_of(struct task_struct *task)
{
	struct mnt_namespace *ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	struct mntns found = {};

	if (!ns)
		return found;
	found.number = BPF_CORE_READ(ns, ns.inum);
	if (bpf_core_field_exists(struct mnt_namespace___id, ns.ns_id))
		found.id = BPF_CORE_READ((struct mnt_namespace___id *)ns, ns.ns_id);
	else if (bpf_core_field_exists(struct mnt_namespace___seq, seq))
		found.id = BPF_CORE_READ((struct mnt_namespace___seq *)ns, seq);
	return found;
}

static __always_inline bool mntns_wanted(struct task_struct *task)
{
	struct mntns ns = mntns_of(task);
	u64 *id = bpf_map_lookup_elem(&wanted_mntns, &ns.number);

	return id && (*id == 0 || *id == ns.id);
}

/* A program's name is its main thread's or the calling thread's: servers rename their workers. */
static __always_inline bool comm_wanted(struct task_struct *task)
{
	struct comm_key key = {};

	bpf_get_current_comm(key.name, sizeof(key.name));
	if (bpf_map_lookup_elem(&wanted_comm, &key))
		return true;
	__builtin_memset(&key, 0, sizeof(key));
	BPF_CORE_READ_STR_INTO(&key.name, task, group_leader, comm);
	return bpf_map_lookup_elem(&wanted_comm, &key);
}

static __always_inline bool task_wanted(struct task_struct *task)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u32 uid = bpf_get_current_uid_gid();

	if (!is_running() || pid == config.own_pid)
		return false;
	if (config.by_mntns && !mntns_wanted(task))
		return false;
	if (config.by_pid && !bpf_map_lookup_elem(&wanted_pid, &pid))
		return false;
	if (config.by_uid && !bpf_map_lookup_elem(&wanted_uid, &uid))
		return false;
	if (config.by_comm && !comm_wanted(task))
		return false;
	return true;
}

#endif
