/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* As much of io_uring as it takes to send one thing after another, by its system calls (linux/io_uring.h). */
#ifndef URING_H
#define URING_H

#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct uring_way {
	int opcode;
	bool fixed; /* the file is registered */
	bool polled; /* a thread of the kernel sends */
};

struct uring {
	int fd;
	unsigned *submitted, *wanted, *completed, *seen;
	unsigned mask, completed_mask, *array;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *completions;
	void *memory, *entry_memory;
	size_t size, entry_size;
};

static bool uring_choose(struct uring_way *way, const char *name)
{
	static const struct {
		const char *name;
		struct uring_way way;
	} all[] = {
		{ "u_send", { IORING_OP_SEND, false, false } },
		{ "u_sendmsg", { IORING_OP_SENDMSG, false, false } },
		{ "u_write", { IORING_OP_WRITE, false, false } },
		{ "u_writev", { IORING_OP_WRITEV, false, false } },
		{ "u_fixed", { IORING_OP_SEND, true, false } },
		{ "u_polled", { IORING_OP_WRITE, true, true } },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (!strcmp(name, all[i].name))
			return *way = all[i].way, true;
	return false;
}

static void uring_open(struct uring *ring, const struct uring_way *way, int socket)
{
	struct io_uring_params params = { .flags = way->polled ? IORING_SETUP_SQPOLL : 0 };
	char *memory;

	ring->fd = syscall(SYS_io_uring_setup, 4, &params);
	if (ring->fd < 0 || !(params.features & IORING_FEAT_SINGLE_MMAP))
		die("io_uring_setup");
	ring->size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	if (ring->size < params.sq_off.array + params.sq_entries * sizeof(unsigned))
		ring->size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
	ring->entry_size = params.sq_entries * sizeof(struct io_uring_sqe);
	memory = mmap(NULL, ring->size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->entry_memory = mmap(NULL, ring->entry_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
				  IORING_OFF_SQES);
	if (memory == MAP_FAILED || ring->entry_memory == MAP_FAILED)
		die("mmap");
	ring->memory = memory;
	ring->entries = ring->entry_memory;
	ring->submitted = (void *)(memory + params.sq_off.tail);
	ring->wanted = (void *)(memory + params.sq_off.flags);
	ring->array = (void *)(memory + params.sq_off.array);
	ring->mask = *(unsigned *)(memory + params.sq_off.ring_mask);
	ring->completed = (void *)(memory + params.cq_off.tail);
	ring->seen = (void *)(memory + params.cq_off.head);
	ring->completed_mask = *(unsigned *)(memory + params.cq_off.ring_mask);
	ring->completions = (void *)(memory + params.cq_off.cqes);
	/* At place 1, so that the number is no descriptor of anything. */
	if (way->fixed &&
	    syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, (int[]){ -1, socket }, 2))
		die("IORING_REGISTER_FILES");
}

static void uring_close(struct uring *ring)
{
	munmap(ring->memory, ring->size);
	munmap(ring->entry_memory, ring->entry_size);
	close(ring->fd);
}

/* Gives what the operation gave. */
static int uring_send(struct uring *ring, const struct uring_way *way, int socket, void *data, size_t length)
{
	struct iovec part = { data, length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	unsigned at = *ring->submitted, seen = *ring->seen;
	struct io_uring_sqe *entry = &ring->entries[at & ring->mask];
	unsigned enter = IORING_ENTER_GETEVENTS;
	bool is_list = way->opcode == IORING_OP_WRITEV;

	*entry = (struct io_uring_sqe){ .opcode = way->opcode, .fd = way->fixed ? 1 : socket,
					.flags = way->fixed ? IOSQE_FIXED_FILE : 0 };
	entry->addr = (uint64_t)(way->opcode == IORING_OP_SENDMSG ? (void *)&message :
				 is_list ? (void *)&part : data);
	entry->len = is_list || way->opcode == IORING_OP_SENDMSG ? 1 : length;
	ring->array[at & ring->mask] = at & ring->mask;
	atomic_store((_Atomic unsigned *)ring->submitted, at + 1);
	if (atomic_load((_Atomic unsigned *)ring->wanted) & IORING_SQ_NEED_WAKEUP)
		enter |= IORING_ENTER_SQ_WAKEUP;
	while (atomic_load((_Atomic unsigned *)ring->completed) == seen)
		if (syscall(SYS_io_uring_enter, ring->fd, !way->polled, 1, enter, NULL, 0) < 0)
			die("io_uring_enter");
	atomic_store((_Atomic unsigned *)ring->seen, seen + 1);
	return ring->completions[seen & ring->completed_mask].res;
}

#endif
