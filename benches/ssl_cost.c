/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What SSL_write and SSL_read cost, for benches/run: one thread that is both ends of a TLS 1.3 connection
 * over loopback TCP, so that no scheduling stands between the calls. It writes a batch, reads it, and times
 * each of both; the medians over the batches leave out those that were interrupted.
 *
 *   usage: ssl_cost CERT KEY BYTES BATCHES [PAIRS_PER_SECOND]
 *   prints: ns per write, ns per read, pairs of a write and a read, seconds
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

/* A batch stays in the socket's buffers until it is read. */
#define BATCH_BYTES 65536
#define BATCH_CALLS_MAX 64
#define SOCKET_BYTES (1 << 20)

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "ssl_cost: %s failed\n", what);
	exit(1);
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int new_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), bytes = SOCKET_BYTES;

	check(fd >= 0, "socket");
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	return fd;
}

static void connect_both(int *client, int *server)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int listener = new_socket();

	check(!bind(listener, (struct sockaddr *)&address, size), "bind");
	check(!listen(listener, 1), "listen");
	check(!getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
	*client = new_socket();
	check(!connect(*client, (struct sockaddr *)&address, size), "connect");
	*server = accept(listener, NULL, NULL);
	check(*server >= 0, "accept");
}

static SSL *new_end(const SSL_METHOD *method, int fd, const char *cert, const char *key)
{
	SSL_CTX *context = SSL_CTX_new(method);
	SSL *ssl;

	check(context != NULL, "SSL_CTX_new");
	check(SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION), "TLS 1.3");
	check(SSL_CTX_set_num_tickets(context, 0), "SSL_CTX_set_num_tickets");
	if (cert) {
		check(SSL_CTX_use_certificate_file(context, cert, SSL_FILETYPE_PEM) == 1, "reading CERT");
		check(SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1, "reading KEY");
	}
	ssl = SSL_new(context);
	check(ssl && SSL_set_fd(ssl, fd), "SSL_new");
	return ssl;
}

/* Neither end waits for the other, since both are this thread. */
static void shake_hands(SSL *client, SSL *server)
{
	int fds[] = { SSL_get_fd(client), SSL_get_fd(server) };

	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	while (!SSL_is_init_finished(client) || !SSL_is_init_finished(server)) {
		SSL *ends[] = { client, server };

		for (int i = 0; i < 2; i++) {
			int result = SSL_do_handshake(ends[i]);

			check(result == 1 || SSL_get_error(ends[i], result) == SSL_ERROR_WANT_READ,
			      "handshake");
		}
	}
	fcntl(fds[0], F_SETFL, 0);
	fcntl(fds[1], F_SETFL, 0);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, long count)
{
	qsort(values, count, sizeof(*values), by_size);
	return values[count / 2];
}

static void wait_until(double at_ns)
{
	double left = at_ns - now_ns();
	struct timespec t = { .tv_sec = left / 1e9 };

	if (left <= 0)
		return;
	t.tv_nsec = left - t.tv_sec * 1e9;
	nanosleep(&t, NULL);
}

static void measure(SSL *client, SSL *server, int bytes, long batches, double rate)
{
	static char data[BATCH_BYTES];
	int calls = BATCH_BYTES / bytes < BATCH_CALLS_MAX ? BATCH_BYTES / bytes : BATCH_CALLS_MAX;
	double *writes = calloc(batches, sizeof(*writes)), *reads = calloc(batches, sizeof(*reads));
	double began = now_ns();

	check(writes && reads, "calloc");
	for (long i = 0; i < batches; i++) {
		double start = now_ns(), middle;

		for (int j = 0; j < calls; j++)
			check(SSL_write(client, data, bytes) == bytes, "SSL_write");
		middle = now_ns();
		for (int j = 0; j < calls; j++)
			check(SSL_read(server, data, bytes) == bytes, "SSL_read");
		reads[i] = (now_ns() - middle) / calls;
		writes[i] = (middle - start) / calls;
		if (rate > 0)
			wait_until(began + (i + 1) * calls / rate * 1e9);
	}
	printf("%.0f %.0f %ld %.3f\n", median(writes, batches), median(reads, batches), batches * calls,
	       (now_ns() - began) / 1e9);
}

int main(int argc, char **argv)
{
	int client, server, bytes = argc > 4 ? atoi(argv[3]) : 0;
	long batches = argc > 4 ? atol(argv[4]) : 0;
	SSL *ends[2];

	if (bytes < 1 || bytes > 16384 || batches < 1) {
		fprintf(stderr, "usage: ssl_cost CERT KEY BYTES BATCHES [PAIRS_PER_SECOND]\n"
				"BYTES: 1 to 16384\n");
		return 2;
	}
	connect_both(&client, &server);
	ends[0] = new_end(TLS_client_method(), client, NULL, NULL);
	ends[1] = new_end(TLS_server_method(), server, argv[1], argv[2]);
	shake_hands(ends[0], ends[1]);
	measure(ends[0], ends[1], bytes, batches, argc > 5 ? atof(argv[5]) : 0);
	SSL_free(ends[0]);
	SSL_free(ends[1]);
	return 0;
}
