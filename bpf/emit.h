/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The way to user space: one map, a ring buffer (5.8) or a perf buffer, and memory to build records in. */
#ifndef TLSDUMP_EMIT_H
#define TLSDUMP_EMIT_H

/* User space sets the size, and turns it into a BPF_MAP_TYPE_PERF_EVENT_ARRAY where asked or needed. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

/* Waking user space costs the traced program more than all else that is done in its call, so user space is
 * left to look by itself some times a second (src/source/live/buffer.rs) unless much is waiting. */
static __always_inline u64 wakeup(void)
{
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= config.wakeup_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* A whole record, or nothing: 0 or a negative error. */
static __always_inline long emit(void *ctx, void *record, u64 size)
{
	if (config.use_ring &&
	    bpf_core_enum_value_exists(enum bpf_func_id___asked, BPF_FUNC_ringbuf_output___asked))
		return bpf_ringbuf_output(&events, record, size, wakeup());
	return bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, record, size);
}

/* Records are too large for the stack. Several slots a CPU, because from 6.0 on a program can be preempted
 * by another task's on the same CPU while it fills one. */
#define SCRATCH_SLOTS 4

struct scratch {
	u64 users;
	union {
		struct {
			struct data_record record;
			u8 bytes[CHUNK_BYTES];
		};
		struct {
			struct name_record name;
			u8 name_bytes[NAME_BYTES_MAX + 1]; /* and a NUL */
		};
		struct secret_record secret;
	};
};

/* User space makes it SCRATCH_SLOTS × CPUs long. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SCRATCH_SLOTS);
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* Whoever reads 1 after adding 1 is alone. Works without an atomic that returns a value (5.12), because
 * all that meet in one slot run on one CPU and so see each other's additions in order. */
static __always_inline struct scratch *scratch_take(void)
{
	u32 first = bpf_get_smp_processor_id() * SCRATCH_SLOTS;

	for (u32 i = 0; i < SCRATCH_SLOTS; i++) {
		u32 slot = first + i;
		struct scratch *s = bpf_map_lookup_elem(&scratch, &slot);

		if (!s)
			return NULL;
		__sync_fetch_and_add(&s->users, 1);
		if (*(volatile u64 *)&s->users == 1)
			return s;
		__sync_fetch_and_add(&s->users, -1);
	}
	return NULL;
}

static __always_inline void scratch_give(struct scratch *s)
{
	__sync_fetch_and_add(&s->users, -1);
}

#endif
