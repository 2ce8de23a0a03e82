/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* TLS sessions: one SSL object in one process, from its first sight to SSL_free or a new one at its place. */
#ifndef TLSDUMP_SESSION_H
#define TLSDUMP_SESSION_H

#define SESSIONS_MAX 65536
#define PROCESSES_MAX 16384

/* LRU: a session that was not used for longest gives way; it goes on as a new one if it is used again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SESSIONS_MAX);
	__type(key, struct session_key);
	__type(value, struct session);
} sessions SEC(".maps");

/* Processes that have sessions, and whether bytes of them were lost: only their end is told. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, u32);
	__type(value, u8);
} processes SEC(".maps");

/* Child → the process that it was forked from, if that had sessions: a session can go on in the child, with
 * its place in memory and its connection. Until the child executes another program. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, u32);
	__type(value, u32);
} forked SEC(".maps");

#define FORKS_MAX 4 /* generations that are looked back */

static const struct session session_zero = {};

static __always_inline struct session_key session_key(u64 ssl)
{
	struct session_key key = { .ssl = ssl, .pid = bpf_get_current_pid_tgid() >> 32 };

	return key;
}

/* The calling thread, into a record or a session. */
static __always_inline void task_fill(struct task_info *info, struct task_struct *task)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct mntns ns = mntns_of(task);

	info->pid = pid_tgid >> 32;
	info->tid = pid_tgid;
	info->uid = bpf_get_current_uid_gid();
	info->mntns = ns.number;
	info->mntns_id = ns.id;
	info->start_ns = BPF_CORE_READ(task, group_leader, start_time);
	bpf_get_current_comm(info->comm, sizeof(info->comm));
}

static __always_inline u32 library_of(void *ctx)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___asked, BPF_FUNC_get_attach_cookie___asked))
		return bpf_get_attach_cookie(ctx);
	return 0;
}

/* No two sessions of a process are made on one CPU in one nanosecond. */
static __always_inline u64 session_id(void)
{
	return bpf_ktime_get_ns() << 10 | (bpf_get_smp_processor_id() & 1023);
}

/* When a session was made; the upper bits of the time are not in its id. */
#define SESSION_TIME (~0ULL >> 10)

static __always_inline u64 session_made(u64 id)
{
	return id >> 10;
}

static __always_inline struct session *session_find(const struct session_key *key)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct session *s = bpf_map_lookup_elem(&sessions, key);

	/* The process id may have been used again. */
	if (s && (s->gone || s->context.task.start_ns != BPF_CORE_READ(task, group_leader, start_time)))
		return NULL;
	return s;
}

/* Enters a session of the current process that begins as a copy of `from`. */
static __always_inline struct session *session_enter(const struct session_key *key,
						      const struct session *from)
{
	struct session *s;
	u32 pid = key->pid;
	u8 lost = 0;

	bpf_map_update_elem(&sessions, key, from, BPF_ANY);
	s = bpf_map_lookup_elem(&sessions, key);
	if (!s)
		return NULL;
	task_fill(&s->context.task, (void *)bpf_get_current_task());
	bpf_map_update_elem(&processes, &pid, &lost, BPF_NOEXIST);
	return s;
}

static __always_inline struct session *session_make(void *ctx, const struct session_key *key)
{
	struct session *s = session_enter(key, &session_zero);

	if (!s)
		return NULL;
	s->context.session = session_id();
	s->context.library = library_of(ctx);
	s->fd = -1;
	return s;
}

/* The session that a process before the fork had at that place, or NULL. */
static __always_inline struct session *session_before_fork(const struct session_key *key)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 begun = BPF_CORE_READ(task, group_leader, start_time);
	struct session_key before = *key;

	for (u32 i = 0; i < FORKS_MAX; i++) {
		u32 *pid = bpf_map_lookup_elem(&forked, &before.pid);
		struct session *s;

		if (!pid)
			return NULL;
		before.pid = *pid;
		s = bpf_map_lookup_elem(&sessions, &before);
		/* One made later is not what was copied: the place, or the process id, was used again. */
		if (s && !s->gone && session_made(s->context.session) < (begun & SESSION_TIME))
			return s;
		if (s)
			return NULL;
	}
	return NULL;
}

static __always_inline struct session *session_get(void *ctx, const struct session_key *key)
{
	struct session *s = session_find(key);

	if (s)
		return s;
	s = session_before_fork(key);
	return s ? session_enter(key, s) : session_make(ctx, key);
}

/* Tells once that a session, or its sending side, has ended; not of a session of which nothing was told. */
static __always_inline void session_tell_end(void *ctx, struct session *s, u32 reason)
{
	struct close_record record = {};

	if (s->ended & (1 << reason))
		return;
	s->ended |= 1 << reason;
	if (!s->context.number && !s->totals[DIR_OUT] && !s->totals[DIR_IN])
		return;
	record.context = s->context;
	record.context.header.size = sizeof(record);
	record.context.header.kind = RECORD_CLOSE;
	record.context.at_ns = bpf_ktime_get_ns();
	record.totals[DIR_OUT] = s->totals[DIR_OUT];
	record.totals[DIR_IN] = s->totals[DIR_IN];
	record.reason = reason;
	if (emit(ctx, &record, sizeof(record)) == 0)
		s->context.number++;
	else
		COUNT(lost_records, 1);
}

#endif
