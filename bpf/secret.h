/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Secrets of sessions, seen where the library derives them: the derivation is a function of its own, which
 * gets the label of the secret (RFC 8446, section 7.1; RFC 5246, section 6.3) and says where the result goes.
 * So nothing of a library's own structures need be known but where it has the client's random number, which
 * user space reads in the code of the function that gives it (src/probe/random.rs). */
#ifndef TLSDUMP_SECRET_H
#define TLSDUMP_SECRET_H

#define RANDOM_PLACES_MAX 8192
#define RANDOM_STEPS_MAX 3

/* Where a session has the client's random number: each step but the last is the offset of a pointer. */
struct random_place {
	u32 steps; /* 0: not known */
	u32 offsets[RANDOM_STEPS_MAX];
};

/* By library. Filled before anything is attached. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, RANDOM_PLACES_MAX);
	__type(key, u32);
	__type(value, struct random_place);
} random_places SEC(".maps");

#define LABEL_BYTES 12 /* the longest */

struct label {
	u8 text[LABEL_BYTES]; /* and zeros */
	u32 what; /* enum secret_kind */
};

/* What TLS 1.3 derives that a key log has a line for. */
static const struct label labels[] = {
	{ "c hs traffic", SECRET_CLIENT_HANDSHAKE },
	{ "s hs traffic", SECRET_SERVER_HANDSHAKE },
	{ "c ap traffic", SECRET_CLIENT_TRAFFIC },
	{ "s ap traffic", SECRET_SERVER_TRAFFIC },
	{ "exp master", SECRET_EXPORTER },
	{ "c e traffic", SECRET_CLIENT_EARLY },
	{ "e exp master", SECRET_EARLY_EXPORTER },
};

/* The kind of the secret with the label of `len` bytes in the traced program; 0: none that is told. */
static __always_inline u32 secret_kind(u64 label, u64 len)
{
	u8 text[LABEL_BYTES] = {};

	barrier_var(len); /* old verifiers want it compared as it is used */
	if (len > LABEL_BYTES || bpf_probe_read_user(text, len, (void *)label))
		return 0;
	for (u32 i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
		const u8 *known = labels[i].text;

		if (*(u64 *)text == *(u64 *)known && *(u32 *)(text + 8) == *(u32 *)(known + 8))
			return labels[i].what;
	}
	return 0;
}

#define LINE_LABEL_BYTES 32 /* a byte more than the longest */

/* The labels of lines of a key log: draft-ietf-tls-keylogfile, section 2. */
static const struct line_label {
	u8 text[LINE_LABEL_BYTES]; /* and zeros */
	u32 what; /* enum secret_kind */
} line_labels[] = {
	{ "CLIENT_RANDOM", SECRET_MASTER },
	{ "CLIENT_HANDSHAKE_TRAFFIC_SECRET", SECRET_CLIENT_HANDSHAKE },
	{ "SERVER_HANDSHAKE_TRAFFIC_SECRET", SECRET_SERVER_HANDSHAKE },
	{ "CLIENT_TRAFFIC_SECRET_0", SECRET_CLIENT_TRAFFIC },
	{ "SERVER_TRAFFIC_SECRET_0", SECRET_SERVER_TRAFFIC },
	{ "EXPORTER_SECRET", SECRET_EXPORTER },
	{ "CLIENT_EARLY_TRAFFIC_SECRET", SECRET_CLIENT_EARLY },
	{ "EARLY_EXPORTER_SECRET", SECRET_EARLY_EXPORTER },
};

/* The kind of the secret whose line has the label of `len` bytes in the traced program; 0: none that is
 * told. */
static __always_inline u32 line_kind(u64 label, u64 len)
{
	u64 text[LINE_LABEL_BYTES / 8] = {};

	barrier_var(len);
	if (len >= LINE_LABEL_BYTES || bpf_probe_read_user(text, len, (void *)label))
		return 0;
	for (u32 i = 0; i < sizeof(line_labels) / sizeof(line_labels[0]); i++) {
		const u64 *known = (const u64 *)line_labels[i].text;

		if (text[0] == known[0] && text[1] == known[1] && text[2] == known[2] && text[3] == known[3])
			return line_labels[i].what;
	}
	return 0;
}

/* struct HkdfLabel of RFC 8446, section 7.1, up to the label proper. */
struct hkdf_label {
	u8 aligns, length[2], label_len;
	u32 tls1; /* "tls13 " */
	u16 three;
};

#define HKDF_LABEL_BYTES 9
#define LABEL_PREFIX_BYTES 6
#define TLS1 0x31736c74
#define THREE 0x2033

/* The kind of the secret that is expanded with that struct of `len` bytes in the traced program. */
static __always_inline u32 expanded_kind(u64 info, u64 len)
{
	struct hkdf_label head;

	if (len < HKDF_LABEL_BYTES || bpf_probe_read_user(head.length, HKDF_LABEL_BYTES, (void *)info))
		return 0;
	if (head.tls1 != TLS1 || head.three != THREE || head.label_len < LABEL_PREFIX_BYTES ||
	    len < HKDF_LABEL_BYTES - LABEL_PREFIX_BYTES + head.label_len)
		return 0;
	return secret_kind(info + HKDF_LABEL_BYTES, head.label_len - LABEL_PREFIX_BYTES);
}

#define KEY_EXPANSION_BYTES 13 /* "key expansion", of which the beginning does */
#define KEY_EXPANSION 0x7078652079656bULL
#define MASTER_BYTES 48

/* Whether the keys of TLS 1.2 or before are derived with that label. */
static __always_inline bool is_key_expansion(u64 label, u64 len)
{
	u64 text = 0;

	return len == KEY_EXPANSION_BYTES && !bpf_probe_read_user(&text, 7, (void *)label) &&
	       text == KEY_EXPANSION;
}

/* Reads the random number of the session's client. */
static __always_inline bool random_read(struct session *s, u64 ssl, u8 random[RANDOM_BYTES])
{
	u32 library = s->context.library;
	struct random_place *place = bpf_map_lookup_elem(&random_places, &library);
	u64 at = ssl;

	if (!place)
		return false;
	for (u32 i = 0; i < RANDOM_STEPS_MAX; i++) {
		at += place->offsets[i];
		if (i + 1 >= place->steps)
			return place->steps && !bpf_probe_read_user(random, RANDOM_BYTES, (void *)at);
		if (bpf_probe_read_user(&at, sizeof(at), (void *)at))
			return false;
	}
	return false;
}

/* Tells a secret of `len` bytes in the traced program. `random` is where the client's random number is there,
 * 0 where that is only in the session. */
static __always_inline void secret_send(void *ctx, u64 ssl, u32 what, u64 secret, u64 len, u64 random)
{
	struct session_key key = session_key(ssl);
	struct session *s = session_find(&key);
	struct scratch *scratch;
	struct secret_record *record;
	bool read;

	if (!s || len == 0 || len > SECRET_BYTES_MAX)
		return;
	scratch = scratch_take();
	if (!scratch) {
		COUNT(lost_secrets, 1);
		return;
	}
	record = &scratch->secret;
	record->context = s->context;
	record->context.header.kind = RECORD_SECRET;
	record->context.header.size = sizeof(*record);
	record->context.at_ns = bpf_ktime_get_ns();
	record->what = what;
	record->len = len;
	__builtin_memset(record->secret, 0, sizeof(record->secret));
	if (random)
		read = !bpf_probe_read_user(record->client_random, RANDOM_BYTES, (void *)random);
	else
		read = random_read(s, ssl, record->client_random);
	barrier_var(len);
	if (len <= SECRET_BYTES_MAX)
		read = read && !bpf_probe_read_user(record->secret, len, (void *)secret);
	if (!read || emit(ctx, record, sizeof(*record)) != 0)
		COUNT(lost_secrets, 1);
	scratch_give(scratch);
}

/* A derivation of the secret `what` of the session in whose call the thread is, to `out`. */
static __always_inline int secret_enter(u64 sp, u32 what, u64 out, u32 len)
{
	struct call *within = call_top();
	struct call call = { .sp = sp, .buf = out, .out = (u64)what << 32 | len, .dir = DIR_SECRET };

	if (!within || !what)
		return 0;
	call.ssl = within->ssl;
	call_enter(&call);
	return 0;
}

/* The function has returned: what was derived is there, if it has succeeded. */
static __always_inline int secret_exit(struct pt_regs *ctx, bool succeeded)
{
	struct call call;

	if (call_leave(RETURN_SP(ctx), DIR_SECRET, &call) && succeeded)
		secret_send(ctx, call.ssl, call.out >> 32, call.buf, (u32)call.out, 0);
	return 0;
}

/* One that returns 1. */
SEC("uretprobe")
int exit_derive(struct pt_regs *ctx)
{
	return secret_exit(ctx, (s32)PT_REGS_RC(ctx) > 0);
}

/* One that can't fail. */
SEC("uretprobe")
int exit_derive_void(struct pt_regs *ctx)
{
	return secret_exit(ctx, true);
}

#endif
