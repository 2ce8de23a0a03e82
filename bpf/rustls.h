/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* rustls, at the functions through which all plaintext goes. Both directions have the connection's state
 * (CommonState) as their first argument, but that is no name for a session: programs move it about, and what
 * was one's place is soon another's. What stays is the object on the heap that encrypts: its address is in
 * the state, and where in it is seen when the library encrypts inside a call with a known state. The keys of
 * a session are replaced at the end of the handshake, which is where it begins here, and by a key update.
 * The library has no socket: its records are looked for where they are sent (record.h). */
#ifndef TLSDUMP_RUSTLS_H
#define TLSDUMP_RUSTLS_H

#define RUSTLS_OBJECTS_MAX 65536
#define RUSTLS_THREADS_MAX 8192
#define STATE_BYTES 1024 /* of the state, in which its encrypter is looked for */
#define OBJECT_MIN 0x1000 /* what has no keys yet is no object: its address is a small number */

/* A process, and the program that it runs. */
struct rustls_program {
	u64 start_ns;
	u32 pid;
	u32 execs;
	u32 library;
	u32 reserved;
};

/* Where in a state the address of its encrypter is, in this program. LRU: it is seen again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, struct rustls_program);
	__type(value, u32);
} rustls_layouts SEC(".maps");

/* Whose an encrypter is. Or a state, as long as it has none that is known, or may get another. */
struct rustls_owner {
	u64 ssl;
	u64 encrypter; /* of a state: the one that it had; 0: none */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RUSTLS_OBJECTS_MAX);
	__type(key, struct session_key);
	__type(value, struct rustls_owner);
} rustls_objects SEC(".maps");

/* The calls that a thread is in, by their stack pointers; 0: it is in none. There is one of each kind at the
 * most: they call each other, but neither themselves nor what moves data in another session. */
struct rustls_thread {
	u64 write_sp, write_state;
	u64 write_ssl; /* 0: not known */
	u64 write_ns;
	u64 next, left; /* slices that are to be written */
	u64 skip; /* of their bytes, at the beginning */
	u64 at, here; /* what is left of the slice before them */
	u64 bytes, offset; /* what is left of the write, and where in the stream */
	u64 read_sp, read, read_len; /* the last read */
	u32 read_library; /* by which probe it was seen */
	u32 reserved;
	u64 record_sp, record, record_ssl;
	u64 finish_sp, finish_state;
	u32 finish_role;
	u32 born; /* the session was seen to begin in this call */
};

/* LRU: a thread can end within a call. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RUSTLS_THREADS_MAX);
	__type(key, u64);
	__type(value, struct rustls_thread);
} rustls_threads SEC(".maps");

static const struct rustls_thread rustls_thread_zero = {};

static __always_inline struct rustls_thread *rustls_thread(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&rustls_threads, &thread);
}

/* Of a task that is wanted, else NULL. */
static __always_inline struct rustls_thread *rustls_thread_wanted(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct rustls_thread *t;

	if (!task_wanted((void *)bpf_get_current_task()))
		return NULL;
	t = bpf_map_lookup_elem(&rustls_threads, &thread);
	if (t)
		return t;
	bpf_map_update_elem(&rustls_threads, &thread, &rustls_thread_zero, BPF_NOEXIST);
	t = bpf_map_lookup_elem(&rustls_threads, &thread);
	if (!t)
		COUNT(lost_calls, 1);
	return t;
}

static __always_inline struct rustls_program rustls_program(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct rustls_program program = {
		.start_ns = BPF_CORE_READ(task, group_leader, start_time),
		.pid = bpf_get_current_pid_tgid() >> 32,
		.execs = BPF_CORE_READ(task, self_exec_id),
		.library = library_of(ctx),
	};

	return program;
}

/* The encrypter of a state; 0: there is none yet, or it isn't known where to look for it. */
static __always_inline u64 rustls_encrypter(void *ctx, u64 state)
{
	struct rustls_program program = rustls_program(ctx);
	u32 *at = bpf_map_lookup_elem(&rustls_layouts, &program);
	u64 encrypter = 0;

	if (!at || bpf_probe_read_user(&encrypter, sizeof(encrypter), (void *)(state + *at)))
		return 0;
	return encrypter < OBJECT_MIN ? 0 : encrypter;
}

/* The library encrypts with that object for that state: looks where in it that is, unless it is known. */
static __always_inline void rustls_learn(void *ctx, u64 state, u64 encrypter)
{
	struct rustls_program program = rustls_program(ctx);
	struct scratch *scratch;

	if (encrypter < OBJECT_MIN || rustls_encrypter(ctx, state) == encrypter)
		return;
	scratch = scratch_take();
	if (!scratch)
		return;
	if (!bpf_probe_read_user(scratch->bytes, STATE_BYTES, (void *)state)) {
		for (u32 at = 0; at < STATE_BYTES; at += sizeof(u64)) {
			if (*(volatile u64 *)(scratch->bytes + at) != encrypter)
				continue;
			bpf_map_update_elem(&rustls_layouts, &program, &at, BPF_ANY);
			break;
		}
	}
	scratch_give(scratch);
}

/* The session at a place; 0: none is known. */
static __always_inline u64 rustls_at(u64 place)
{
	struct session_key key = session_key(place);
	struct rustls_owner *owner = place ? bpf_map_lookup_elem(&rustls_objects, &key) : NULL;

	return owner ? owner->ssl : 0;
}

/* The session of a state that has no encrypter that is known; 0: there is none. */
static __always_inline u64 rustls_without_keys(u64 state)
{
	struct session_key key = session_key(state);
	struct rustls_owner *owner = bpf_map_lookup_elem(&rustls_objects, &key);

	return owner && !owner->encrypter ? owner->ssl : 0;
}

static __always_inline void rustls_put(u64 place, u64 ssl, u64 encrypter)
{
	struct session_key key = session_key(place);
	struct rustls_owner owner = { .ssl = ssl, .encrypter = encrypter };

	if (place && ssl)
		bpf_map_update_elem(&rustls_objects, &key, &owner, BPF_ANY);
}

static __always_inline void rustls_forget(u64 place)
{
	struct session_key key = session_key(place);

	bpf_map_delete_elem(&rustls_objects, &key);
}

/* Makes a session. Its name is a number that no other has, rather than a place. */
static __always_inline u64 rustls_make(void *ctx)
{
	struct session_key key = session_key(session_id());

	return session_make(ctx, &key) ? key.ssl : 0;
}

/* The session that has that encrypter from now on: the one of the state, if it is known by that only. */
static __always_inline u64 rustls_take(void *ctx, u64 state, u64 encrypter)
{
	struct session_key key = session_key(state);
	struct rustls_owner *owner = bpf_map_lookup_elem(&rustls_objects, &key);
	u64 ssl;

	if (owner) {
		ssl = owner->ssl;
		rustls_forget(owner->encrypter);
		rustls_forget(state);
	} else {
		ssl = rustls_make(ctx);
	}
	rustls_put(encrypter, ssl, 0);
	return ssl;
}

/* A state may get other keys: the next encrypter that it has is the session's too. */
static __always_inline void rustls_may_renew(void *ctx, u64 state)
{
	u64 encrypter = rustls_encrypter(ctx, state);

	rustls_put(state, rustls_at(encrypter), encrypter);
}

static __always_inline void rustls_tell_end(void *ctx, u64 ssl, u32 reason)
{
	struct session_key key = session_key(ssl);
	struct session *s = ssl ? session_find(&key) : NULL;

	if (!s)
		return;
	session_tell_end(ctx, s, reason);
	if (reason == CLOSE_FREE)
		s->gone = 1;
}

#endif
