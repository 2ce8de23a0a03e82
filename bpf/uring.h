/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Records that leave by io_uring: no system call has them, and another thread may send them. What is to be
 * sent is told when it is submitted. */
#ifndef TLSDUMP_URING_H
#define TLSDUMP_URING_H

/* linux/io_uring.h */
#define IORING_OP_WRITEV 2
#define IORING_OP_WRITE_FIXED 5
#define IORING_OP_SENDMSG 9
#define IORING_OP_WRITE 23
#define IORING_OP_SEND 26
#define IORING_OP_SEND_ZC 47
#define IORING_OP_SENDMSG_ZC 48
#define IORING_OP_WRITEV_FIXED 61
#define REQ_F_FIXED_FILE 1 /* the descriptor is a number in the ring's own table: IOSQE_FIXED_FILE */
#define FILE_FLAGS 7ULL /* in the lower bits of a pointer in that table */

/* What a request is to send. False: it sends nothing, or what cannot be told. */
static __always_inline bool moving_of_request(struct moving *m, struct io_kiocb *req)
{
	struct io_sr_msg *send = (void *)req;
	struct io_rw *write = (void *)req;
	u8 opcode = BPF_CORE_READ(req, opcode);

	m->count = 1;
	switch (opcode) {
	case IORING_OP_SEND:
	case IORING_OP_SEND_ZC:
		m->one.base = (u64)BPF_CORE_READ(send, buf);
		m->one.len = BPF_CORE_READ(send, len);
		return true;
	case IORING_OP_SENDMSG:
	case IORING_OP_SENDMSG_ZC:
		return moving_list(m, (u64)BPF_CORE_READ(send, buf), 0, true);
	case IORING_OP_WRITE:
	case IORING_OP_WRITE_FIXED:
		m->one.base = BPF_CORE_READ(write, addr);
		m->one.len = BPF_CORE_READ(write, len);
		return true;
	case IORING_OP_WRITEV:
	case IORING_OP_WRITEV_FIXED:
		return moving_list(m, BPF_CORE_READ(write, addr), BPF_CORE_READ(write, len), false);
	default:
		return false;
	}
}

/* The file at a place of the ring's own table. */
static __always_inline struct file *fixed_file(struct io_kiocb *req, u32 index)
{
	struct io_ring_ctx *ring = BPF_CORE_READ(req, ctx);
	struct io_file_table *table = &ring->file_table;
	unsigned long file = 0;

	if (bpf_core_field_exists(table->data)) {
		struct io_rsrc_node *node = NULL;

		if (index < BPF_CORE_READ(table, data.nr))
			bpf_probe_read_kernel(&node, sizeof(node), BPF_CORE_READ(table, data.nodes) + index);
		if (node)
			file = BPF_CORE_READ(node, file_ptr);
	} else {
		struct io_fixed_file *files = BPF_CORE_READ((struct io_file_table___files *)table, files);

		/* A number beyond the table was refused before. */
		if (files)
			file = BPF_CORE_READ(files + index, file_ptr);
	}
	return (void *)(file & ~FILE_FLAGS);
}

static __always_inline struct sock *sock_of_request(struct io_kiocb *req)
{
	struct file *file = BPF_CORE_READ(req, file);

	if (file)
		return sock_of_file(file);
	if (!bpf_core_field_exists(req->cqe))
		return NULL;
	if (BPF_CORE_READ(req, flags) & REQ_F_FIXED_FILE)
		return sock_of_file(fixed_file(req, BPF_CORE_READ(req, cqe.fd)));
	return sock_of_fd(BPF_CORE_READ(req, cqe.fd));
}

static __always_inline int uring_submits(void *ctx, struct io_kiocb *req)
{
	struct moving m = {};
	struct sock *sk;

	if (!(watched_for() & WATCH_SENT) || !moving_of_request(&m, req))
		return 0;
	sk = sock_of_request(req);
	if (sk)
		records_leave(ctx, sk, &m);
	return 0;
}

/* Kernel 6.4 and later. */
SEC("raw_tp/io_uring_submit_req")
int uring_submit_req(struct bpf_raw_tracepoint_args *ctx)
{
	return uring_submits(ctx, (struct io_kiocb *)ctx->args[0]);
}

/* Kernels 6.0 to 6.3. */
SEC("raw_tp/io_uring_submit_sqe")
int uring_submit_sqe(struct bpf_raw_tracepoint_args *ctx)
{
	return uring_submits(ctx, (struct io_kiocb *)ctx->args[0]);
}

#endif
