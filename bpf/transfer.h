/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* One call's plaintext into the buffer, in chunks, whatever its length. */
#ifndef TLSDUMP_TRANSFER_H
#define TLSDUMP_TRANSFER_H

struct transfer {
	void *ctx;
	struct session *session;
	struct scratch *scratch;
	u64 buf; /* 0: the bytes are nowhere to be read */
	u64 len;
	u64 offset; /* of buf[0] in the stream */
	u64 at_ns;
	u32 dir;
};

/* Without bpf_loop() (5.17) the verifier walks through every turn: so much of one call is kept at the most,
 * the rest is told as lost. */
#define UNROLLED_CHUNKS 256

static __always_inline void chunk_lost(u64 len)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u8 *lost = bpf_map_lookup_elem(&processes, &pid);

	if (lost)
		*lost = 1;
	COUNT(lost_records, 1);
	COUNT(lost_bytes, len);
}

/* Chunk number i; 1 where there is none. */
static long chunk_send(u32 i, struct transfer *t)
{
	u64 done = (u64)i * CHUNK_BYTES;
	struct scratch *scratch = t->scratch;
	struct session *s = t->session;
	struct data_record *record = &scratch->record;
	u64 len;

	if (done >= t->len)
		return 1;
	len = t->len - done;
	if (len > CHUNK_BYTES)
		len = CHUNK_BYTES;
	record->context.number = s->context.number;
	record->offset = t->offset + done;
	record->len = len;
	record->context.header.size = sizeof(*record) + len;
	barrier_var(len); /* keep the bound where the verifier sees it */
	if (len > CHUNK_BYTES)
		return 1;
	if (bpf_probe_read_user(scratch->bytes, len, (void *)(t->buf + done))) {
		COUNT(unreadable, 1);
		chunk_lost(len);
		return 0;
	}
	if (emit(t->ctx, record, sizeof(*record) + len)) {
		chunk_lost(len);
		return 0;
	}
	COUNT(captured_bytes, len);
	s->context.number++;
	return 0;
}

/* Builds what all records of the call begin with. False: the bytes are lost, and it is told. */
static __always_inline bool transfer_begin(struct transfer *t)
{
	struct scratch *scratch = t->buf ? scratch_take() : NULL;

	if (!scratch) {
		chunk_lost(t->len);
		return false;
	}
	t->scratch = scratch;
	scratch->record.context = t->session->context;
	scratch->record.context.header.kind = RECORD_DATA;
	scratch->record.context.at_ns = t->at_ns;
	scratch->record.context.task.tid = bpf_get_current_pid_tgid();
	scratch->record.dir = t->dir;
	bpf_get_current_comm(scratch->record.context.task.comm, COMM_BYTES);
	return true;
}

static __always_inline void transfer_send(struct transfer *t, bool loop)
{
	if (!transfer_begin(t))
		return;
	if (loop) {
		bpf_loop((t->len + CHUNK_BYTES - 1) / CHUNK_BYTES, chunk_send, t, 0);
	} else {
		u64 most = (u64)UNROLLED_CHUNKS * CHUNK_BYTES;

		for (u32 i = 0; i < UNROLLED_CHUNKS; i++)
			if (chunk_send(i, t))
				break;
		if (t->len > most)
			chunk_lost(t->len - most);
	}
	scratch_give(t->scratch);
}

/* Of bytes that are one TLS record. */
static __always_inline void transfer_send_record(struct transfer *t)
{
	if (!transfer_begin(t))
		return;
	chunk_send(0, t);
	if (t->len > CHUNK_BYTES)
		chunk_lost(t->len - CHUNK_BYTES);
	scratch_give(t->scratch);
}

#endif
