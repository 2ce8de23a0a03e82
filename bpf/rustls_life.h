/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* How sessions of rustls begin, which records are theirs, and how they end. */
#ifndef TLSDUMP_RUSTLS_LIFE_H
#define TLSDUMP_RUSTLS_LIFE_H

static __always_inline struct session *rustls_without_role(const struct session_key *key)
{
	struct session *s = key->ssl ? session_find(key) : NULL;

	return s && !s->context.conn.role ? s : NULL;
}

/* Begins the session that has that encrypter from now on, whatever was at its place before. What the program
 * wrote before the handshake was done is part of it: such a session has no role. */
static __always_inline u64 rustls_begin(void *ctx, u64 state, u64 encrypter, u8 role)
{
	struct session_key key = session_key(rustls_at(encrypter));
	struct session *s = rustls_without_role(&key);

	if (!s) {
		key = session_key(rustls_without_keys(state));
		s = rustls_without_role(&key);
	}
	rustls_forget(state);
	if (!s) {
		key = session_key(rustls_make(ctx));
		s = session_find(&key);
	}
	rustls_put(encrypter, key.ssl, 0);
	if (s)
		s->context.conn.role = role;
	return key.ssl;
}

/* Result f(Box<Self>, &mut Context, Message): ExpectFinished::handle takes the last message of the handshake.
 * Servers send, in it, their first records with the keys for data. */
static __always_inline int rustls_finishes(struct pt_regs *ctx, u32 role)
{
	struct rustls_thread *t = rustls_thread_wanted();

	if (!t)
		return 0;
	t->finish_sp = ENTRY_SP(ctx);
	t->finish_state = 0;
	bpf_probe_read_user(&t->finish_state, sizeof(t->finish_state), (void *)RUST_PARM2(ctx));
	t->finish_role = role;
	t->born = 0;
	return 0;
}

SEC("uprobe")
int rustls_finish_client(struct pt_regs *ctx)
{
	return rustls_finishes(ctx, ROLE_CLIENT);
}

SEC("uprobe")
int rustls_finish_server(struct pt_regs *ctx)
{
	return rustls_finishes(ctx, ROLE_SERVER);
}

SEC("uretprobe")
int rustls_exit_finish(struct pt_regs *ctx)
{
	struct rustls_thread *t = rustls_thread();
	u64 encrypter;

	if (!t || t->finish_sp != RETURN_SP(ctx))
		return 0;
	t->finish_sp = 0;
	encrypter = t->born ? 0 : rustls_encrypter(ctx, t->finish_state);
	if (encrypter)
		rustls_begin(ctx, t->finish_state, encrypter, t->finish_role);
	return 0;
}

/* The session of a record that is encrypted; 0: none, or it is of a handshake. */
static __always_inline u64 rustls_encrypts(void *ctx, struct rustls_thread *t, u64 sp, u64 encrypter)
{
	u64 ssl;

	if (t->finish_sp > sp) {
		rustls_learn(ctx, t->finish_state, encrypter);
		if (t->born || t->finish_role != ROLE_SERVER)
			return rustls_at(encrypter);
		t->born = 1;
		return rustls_begin(ctx, t->finish_state, encrypter, ROLE_SERVER);
	}
	if (t->write_sp <= sp)
		return 0;
	rustls_learn(ctx, t->write_state, encrypter);
	ssl = rustls_at(encrypter);
	if (!ssl)
		ssl = rustls_take(ctx, t->write_state, encrypter);
	t->write_ssl = ssl;
	return ssl;
}

/* Result f(&self, message, sequence number): MessageEncrypter::encrypt of any cipher. */
SEC("uprobe")
int rustls_enter_encrypt(struct pt_regs *ctx)
{
	struct rustls_thread *t = rustls_thread();

	if (!t)
		return 0;
	t->record_ssl = rustls_encrypts(ctx, t, ENTRY_SP(ctx), RUST_PARM1(ctx));
	t->record_sp = ENTRY_SP(ctx);
	t->record = RUST_RESULT(ctx);
	return 0;
}

#define RESULT_WORDS 6

/* The beginning of the record that is in a result. It is in a Vec, from rustls 0.23 on with room for the
 * header, which is written later. False: there is none. */
static __always_inline bool rustls_record(struct record_key *key, u64 result)
{
	u64 words[RESULT_WORDS] = {};
	u64 at = 0, len = 0;
	u8 room[RECORD_HEADER_BYTES];

	bpf_probe_read_user(words, sizeof(words), (void *)result);
	for (u32 i = 0; i + 2 < RESULT_WORDS && !at; i++) {
		at = words[i + 2] >= RECORD_BYTES_MIN ? rust_bytes(words + i) : 0;
		len = words[i + 2];
	}
	if (!at || bpf_probe_read_user(room, sizeof(room), (void *)at))
		return false;
	if (!room[0] && !room[1] && !room[2] && !room[3] && !room[4]) {
		at += RECORD_HEADER_BYTES;
		len -= RECORD_HEADER_BYTES;
	}
	key->beginning[0] = RECORD_APPLICATION_DATA;
	key->beginning[1] = key->beginning[2] = 3;
	key->beginning[3] = len >> 8;
	key->beginning[4] = len;
	key->pid = bpf_get_current_pid_tgid() >> 32;
	at -= RECORD_HEADER_BYTES; /* as if the header were there */
	if (len + RECORD_HEADER_BYTES >= BEGINNING_BYTES)
		len = BEGINNING_BYTES - RECORD_HEADER_BYTES;
	else
		len = RECORD_BYTES_MIN - RECORD_HEADER_BYTES;
	return !bpf_probe_read_user(key->beginning + RECORD_HEADER_BYTES, len,
				    (void *)(at + RECORD_HEADER_BYTES));
}

SEC("uretprobe")
int rustls_exit_encrypt(struct pt_regs *ctx)
{
	struct rustls_thread *t = rustls_thread();
	struct record_key key = {};
	struct session_key of;
	struct session *s;

	if (!t || t->record_sp != RETURN_SP(ctx))
		return 0;
	t->record_sp = 0;
	of = session_key(t->record_ssl);
	s = t->record_ssl ? session_find(&of) : NULL;
	if (!s || s->record_seen || !rustls_record(&key, t->record))
		return 0;
	record_await(s, t->record_ssl, &key);
	return 0;
}

/* Result f(&mut self, state): ExpectTraffic::send_key_update_request. */
SEC("uprobe")
int rustls_new_keys(struct pt_regs *ctx)
{
	if (task_wanted((void *)bpf_get_current_task()))
		rustls_may_renew(ctx, RUST_PARM2(ctx));
	return 0;
}

/* f(state): CommonState::send_close_notify. */
SEC("uprobe")
int BPF_UPROBE(rustls_shutdown, u64 state)
{
	if (task_wanted((void *)bpf_get_current_task()))
		rustls_tell_end(ctx, rustls_at(rustls_encrypter(ctx, state)), CLOSE_SHUTDOWN);
	return 0;
}

/* f(state): it is dropped. */
SEC("uprobe")
int BPF_UPROBE(rustls_close, u64 state)
{
	u64 encrypter;

	if (!task_wanted((void *)bpf_get_current_task()))
		return 0;
	encrypter = rustls_encrypter(ctx, state);
	rustls_tell_end(ctx, rustls_at(encrypter), CLOSE_FREE);
	rustls_tell_end(ctx, rustls_without_keys(state), CLOSE_FREE);
	rustls_forget(encrypter);
	rustls_forget(state);
	return 0;
}

#endif
