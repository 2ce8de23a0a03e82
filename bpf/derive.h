/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The functions by which libraries derive their secrets, each with its arguments in its own way. */
#ifndef TLSDUMP_DERIVE_H
#define TLSDUMP_DERIVE_H

/* The function's `i`th argument beyond those in registers. */
static __always_inline u64 stack_argument(struct pt_regs *ctx, u32 i)
{
	u64 value = 0;
#if defined(__TARGET_ARCH_x86)
	u64 at = PT_REGS_SP(ctx) + 8 + 8 * i; /* above the return address */
#else
	u64 at = PT_REGS_SP(ctx) + 8 * i;
#endif

	bpf_probe_read_user(&value, sizeof(value), (void *)at);
	return value;
}

/* On arm64 two more arguments are in registers. */
#if defined(__TARGET_ARCH_x86)
#define ARGUMENT7(ctx) stack_argument(ctx, 0)
#define ARGUMENT8(ctx) stack_argument(ctx, 1)
#define ARGUMENT9(ctx) stack_argument(ctx, 2)
#define ARGUMENT10(ctx) stack_argument(ctx, 3)
#else
#define ARGUMENT7(ctx) (((const volatile struct user_pt_regs *)(ctx))->regs[6])
#define ARGUMENT8(ctx) (((const volatile struct user_pt_regs *)(ctx))->regs[7])
#define ARGUMENT9(ctx) stack_argument(ctx, 0)
#define ARGUMENT10(ctx) stack_argument(ctx, 1)
#endif

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

/* int EVP_KDF_derive(kdf, u8 *key, size_t len, const OSSL_PARAM params[]). TLS 1.3 derives each secret so. Of
 * TLS 1.2 the keys are, from the master secret and the label with the random numbers of server and client. */
SEC("uprobe")
int BPF_UPROBE(enter_kdf_derive, void *kdf, void *out, u64 len, u64 params)
{
	struct call *within = call_top();
	struct derivation d = {};

	if (!within)
		return 0;
	derivation_read(&d, params);
	if (d.label.data)
		return secret_enter(ENTRY_SP(ctx), secret_kind(d.label.data, d.label.size), (u64)out, len);
	if (d.secret.size == MASTER_BYTES && d.seeds[2].size == RANDOM_BYTES &&
	    is_key_expansion(d.seeds[0].data, d.seeds[0].size))
		secret_send(ctx, within->ssl, SECRET_MASTER, d.secret.data, MASTER_BYTES, d.seeds[2].data);
	return 0;
}

#define UNFINISHED_MAX 4096

/* A derivation of OpenSSL 1.1.1, which gets its parameters one after another. By thread. */
struct unfinished {
	u64 context;
	u64 secret; /* where the master secret is; 0: none, or its keys aren't derived */
	u32 seeds; /* so many came */
	u32 what; /* enum secret_kind */
};

/* LRU, because one that fails is never finished. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, UNFINISHED_MAX);
	__type(key, u64);
	__type(value, struct unfinished);
} unfinished SEC(".maps");

/* EVP_PKEY_CTRL_TLS_SECRET, _TLS_SEED, _HKDF_INFO of OpenSSL 1.1.1, kdf.h. */
#define CONTROL_TLS_SECRET 0x1001
#define CONTROL_TLS_SEED 0x1002
#define CONTROL_HKDF_INFO 0x1006

/* The seeds of the keys of TLS 1.2: a label, the server's random number, and the client's. */
static __always_inline void seed_added(void *ctx, u64 ssl, struct unfinished *u, u64 seed, u32 len)
{
	u32 place = u->seeds++;

	if (place == 0 && !is_key_expansion(seed, len))
		u->secret = 0;
	if (place == 2 && u->secret && len == RANDOM_BYTES)
		secret_send(ctx, ssl, SECRET_MASTER, u->secret, MASTER_BYTES, seed);
}

/* int EVP_PKEY_CTX_ctrl(context, int keytype, int optype, int cmd, int p1, void *p2): a parameter of a
 * derivation, p2 of p1 bytes. */
SEC("uprobe")
int BPF_UPROBE(enter_pkey_control, u64 context, u32 key, u32 operation, u32 command, u32 len, u64 data)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct unfinished begun = { .context = context };
	struct call *within;
	struct unfinished *u;

	if (command != CONTROL_TLS_SECRET && command != CONTROL_TLS_SEED && command != CONTROL_HKDF_INFO)
		return 0;
	within = call_top();
	if (!within)
		return 0;
	if (command == CONTROL_TLS_SEED) {
		u = bpf_map_lookup_elem(&unfinished, &thread);
		if (u && u->context == context)
			seed_added(ctx, within->ssl, u, data, len);
		return 0;
	}
	if (command == CONTROL_TLS_SECRET)
		begun.secret = len == MASTER_BYTES ? data : 0;
	else
		begun.what = expanded_kind(data, len);
	bpf_map_update_elem(&unfinished, &thread, &begun, BPF_ANY);
	return 0;
}

/* int EVP_PKEY_derive(context, u8 *key, size_t *len). */
SEC("uprobe")
int BPF_UPROBE(enter_pkey_derive, u64 context, u64 key, u64 len)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct unfinished *u = bpf_map_lookup_elem(&unfinished, &thread);
	u64 bytes = 0;
	u32 what;

	if (!u || u->context != context)
		return 0;
	what = u->what;
	bpf_map_delete_elem(&unfinished, &thread);
	if (!what || bpf_probe_read_user(&bytes, sizeof(bytes), (void *)len) || bytes > SECRET_BYTES_MAX)
		return 0;
	return secret_enter(ENTRY_SP(ctx), what, key, bytes);
}

/* int HKDF_expand(u8 *out, size_t len, EVP_MD, const u8 *key, size_t, const u8 *info, size_t info_len) of
 * BoringSSL and its kin. */
SEC("uprobe")
int BPF_UPROBE(enter_hkdf_expand, u64 out, u64 len, void *digest, void *key, u64 key_len, u64 info)
{
	if (len > SECRET_BYTES_MAX || !call_top())
		return 0;
	return secret_enter(ENTRY_SP(ctx), expanded_kind(info, ARGUMENT7(ctx)), out, len);
}

/* int CRYPTO_tls1_prf(EVP_MD, u8 *out, size_t, const u8 *secret, size_t, const char *label, size_t,
 * const u8 *seed1, size_t, const u8 *seed2, size_t) of the same. The seeds are as those of OpenSSL. */
SEC("uprobe")
int BPF_UPROBE(enter_tls1_prf, void *digest, void *out, u64 len, u64 secret, u64 secret_len, u64 label)
{
	struct call *within = call_top();

	if (within && secret_len == MASTER_BYTES && is_key_expansion(label, ARGUMENT7(ctx)))
		secret_send(ctx, within->ssl, SECRET_MASTER, secret, MASTER_BYTES, ARGUMENT10(ctx));
	return 0;
}

/* void hkdf_expand(void *mac, update, digest, size_t digest_size, size_t info_len, const u8 *info,
 * size_t len, u8 *out) of nettle, which GnuTLS is made with. */
SEC("uprobe")
int BPF_UPROBE(enter_nettle_expand, void *mac, void *update, void *digest, u64 size, u64 info_len, u64 info)
{
	u64 len = ARGUMENT7(ctx);

	if (len > SECRET_BYTES_MAX || !call_top())
		return 0;
	return secret_enter(ENTRY_SP(ctx), expanded_kind(info, info_len), ARGUMENT8(ctx), len);
}

/* int _gnutls_prf_raw(mac, size_t master_len, const void *master, size_t label_len, const char *label,
 * size_t seed_len, const u8 *seed, …). The seed of keys is both random numbers, the server's first. */
SEC("uprobe")
int BPF_UPROBE(enter_gnutls_prf, u32 mac, u64 len, u64 master, u64 label_len, u64 label, u64 seed_len)
{
	struct call *within = call_top();

	if (within && len == MASTER_BYTES && seed_len == 2 * RANDOM_BYTES &&
	    is_key_expansion(label, label_len))
		secret_send(ctx, within->ssl, SECRET_MASTER, master, MASTER_BYTES,
			    ARGUMENT7(ctx) + RANDOM_BYTES);
	return 0;
}

#endif
