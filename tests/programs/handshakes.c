/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Has TLS sessions one after another as fast as it can, both ends of each in one thread, by OpenSSL or
 * BoringSSL.
 *
 * usage: handshakes CERTIFICATE KEYLOG VERSION THREADS SESSIONS
 *   CERTIFICATE   file with a certificate and its key
 *   KEYLOG        file to which the secrets of the sessions are appended
 *   VERSION       1.2 or 1.3
 *   SESSIONS      of each thread
 *
 * Says how many sessions it had in how many milliseconds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define THREADS_MAX 64

static SSL_CTX *client_settings, *server_settings;
static FILE *keylog;
static int sessions;

static void die(const char *what)
{
	fprintf(stderr, "handshakes: %s failed\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void log_line(const SSL *ssl, const char *line)
{
	fprintf(keylog, "%s\n", line);
}

/* Whether a step of the handshake is done; the other end may have to go on first. */
static int has_shaken(SSL *ssl)
{
	int result = SSL_do_handshake(ssl);

	if (result != 1 && SSL_get_error(ssl, result) != SSL_ERROR_WANT_READ)
		die("SSL_do_handshake");
	return result == 1;
}

static void say(SSL *from, SSL *to)
{
	char letter = 'x';

	if (SSL_write(from, &letter, 1) != 1 || SSL_read(to, &letter, 1) != 1)
		die("a byte");
}

static void have_session(void)
{
	SSL *client = SSL_new(client_settings), *server = SSL_new(server_settings);
	BIO *here, *there;
	int done = 0;

	if (!client || !server || !BIO_new_bio_pair(&here, 0, &there, 0))
		die("SSL_new");
	SSL_set_bio(client, here, here);
	SSL_set_bio(server, there, there);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	while (done != 3)
		done = has_shaken(client) | has_shaken(server) << 1;
	say(client, server);
	say(server, client);
	SSL_free(client);
	SSL_free(server);
}

static void *have_sessions(void *unused)
{
	for (int i = 0; i < sessions; i++)
		have_session();
	return NULL;
}

static void settle(const char *certificate, const char *version)
{
	int number = strcmp(version, "1.2") ? TLS1_3_VERSION : TLS1_2_VERSION;

	client_settings = SSL_CTX_new(TLS_method());
	server_settings = SSL_CTX_new(TLS_method());
	if (!client_settings || !server_settings)
		die("SSL_CTX_new");
	if (SSL_CTX_use_certificate_file(server_settings, certificate, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(server_settings, certificate, SSL_FILETYPE_PEM) != 1)
		die("the certificate");
	if (!SSL_CTX_set_min_proto_version(client_settings, number) ||
	    !SSL_CTX_set_max_proto_version(client_settings, number))
		die("the version");
	SSL_CTX_set_verify(client_settings, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_keylog_callback(client_settings, log_line);
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int count, char **arguments)
{
	pthread_t threads[THREADS_MAX];
	int parallel = count == 6 ? atoi(arguments[4]) : 0;
	long begun;

	if (parallel < 1 || parallel > THREADS_MAX) {
		fprintf(stderr, "usage: handshakes CERTIFICATE KEYLOG VERSION THREADS SESSIONS\n");
		return 2;
	}
	settle(arguments[1], arguments[3]);
	sessions = atoi(arguments[5]);
	keylog = fopen(arguments[2], "a");
	if (!keylog)
		die("opening the key log");
	begun = milliseconds();
	for (int i = 0; i < parallel; i++)
		if (pthread_create(&threads[i], NULL, have_sessions, NULL))
			die("pthread_create");
	for (int i = 0; i < parallel; i++)
		pthread_join(threads[i], NULL);
	printf("%d sessions in %ld ms\n", parallel * sessions, milliseconds() - begun);
	return fclose(keylog) ? 1 : 0;
}
