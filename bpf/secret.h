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

	if (len == 0 || len > LABEL_BYTES || bpf_probe_read_user(text, len, (void *)label))
		return 0;
	for (u32 i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
		const u8 *known = labels[i].text;

		if (*(u64 *)text == *(u64 *)known && *(u32 *)(text + 8) == *(u32 *)(known + 8))
			return labels[i].what;
	}
	return 0;
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
	if (!scratch)
		return;
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
	barrier_var(len); /* keep the bound where the verifier sees it */
	if (len && len <= SECRET_BYTES_MAX)
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

/* struct ossl_param_st of OpenSSL 3, core.h: a list of these ends with one without a name. */
struct parameter {
	u64 name;
	u32 type, reserved;
	u64 data, size, returned;
};

#define PARAMETERS_MAX 12 /* a derivation of TLS has up to eight */
#define SEEDS_MAX 4 /* a power of two */

/* What is looked for in the parameters of a derivation: OSSL_KDF_PARAM_LABEL, _SECRET, _SEED. */
struct derivation {
	struct parameter label, secret, seeds[SEEDS_MAX];
	u32 seed;
};

#define NAME_LABEL 0x6c6562616cULL /* "label", of which also the end */
#define NAME_SECRET 0x746572636573ULL
#define NAME_SEED 0x64656573ULL

static __always_inline void derivation_read(struct derivation *d, u64 params)
{
	for (u32 i = 0; i < PARAMETERS_MAX; i++) {
		struct parameter p;
		u64 name = 0;

		if (bpf_probe_read_user(&p, sizeof(p), (void *)(params + i * sizeof(p))) || !p.name)
			return;
		bpf_probe_read_user_str(&name, sizeof(name), (void *)p.name);
		if (name == NAME_LABEL)
			d->label = p;
		else if (name == NAME_SECRET)
			d->secret = p;
		else if (name == NAME_SEED && d->seed < SEEDS_MAX)
			d->seeds[d->seed++ & (SEEDS_MAX - 1)] = p;
	}
}

#define KEY_EXPANSION_BYTES 13 /* "key expansion", of which the beginning does */
#define KEY_EXPANSION 0x7078652079656bULL
#define MASTER_BYTES 48

/* int EVP_KDF_derive(kdf, u8 *key, size_t len, const OSSL_PARAM params[]). TLS 1.3 derives each secret so. Of
 * TLS 1.2 the keys are, from the master secret and the label with the random numbers of server and client. */
SEC("uprobe")
int BPF_UPROBE(enter_kdf_derive, void *kdf, void *out, u64 len, u64 params)
{
	struct call *within = call_top();
	struct derivation d = {};
	u64 label = 0;

	if (!within)
		return 0;
	derivation_read(&d, params);
	if (d.label.data)
		return secret_enter(ENTRY_SP(ctx), secret_kind(d.label.data, d.label.size), (u64)out, len);
	if (d.secret.size != MASTER_BYTES || d.seeds[0].size != KEY_EXPANSION_BYTES ||
	    d.seeds[2].size != RANDOM_BYTES)
		return 0;
	bpf_probe_read_user(&label, 7, (void *)d.seeds[0].data);
	if (label == KEY_EXPANSION)
		secret_send(ctx, within->ssl, SECRET_MASTER, d.secret.data, d.secret.size, d.seeds[2].data);
	return 0;
}

/* Where the result is not that of a C function that succeeds with 1, another program. */
SEC("uretprobe")
int exit_kdf_derive(struct pt_regs *ctx)
{
	struct call call;

	if (call_leave(RETURN_SP(ctx), DIR_SECRET, &call) && (s32)PT_REGS_RC(ctx) > 0)
		secret_send(ctx, call.ssl, call.out >> 32, call.buf, (u32)call.out, 0);
	return 0;
}

#endif
