/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Configuration set before load, and the counters that are read while it runs. */
#ifndef TLSDUMP_CONFIG_H
#define TLSDUMP_CONFIG_H

const volatile struct config config = {};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* One entry, not 0 while the capture runs: all probes begin and end at one moment, though they are attached
 * and detached one after another. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} running SEC(".maps");

static __always_inline bool is_running(void)
{
	u32 zero = 0;
	u32 *value = bpf_map_lookup_elem(&running, &zero);

	return value && *(volatile u32 *)value;
}

/* An atomic add, though the counters are per CPU: from 6.0 on a program can be preempted by another task's
 * on the same CPU, and the sums are promised to be exact. */
#define COUNT(reason, n)                                                             \
	do {                                                                         \
		u32 zero__ = 0;                                                      \
		struct counters *counters__ = bpf_map_lookup_elem(&counters, &zero__); \
		if (counters__)                                                      \
			__sync_fetch_and_add(&counters__->reason, (n));              \
	} while (0)

#endif
