/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Moves bytes over TLS by OpenSSL, in all the ways that are hard to capture, and tells what it moved.
 *
 * usage: tlsmove [OPTION...] client|server ADDRESS PORT STEP...
 *   -c FILE   certificate and key (server)
 *   -s SEED   what is written: words of 8 bytes, SEED in the upper 16 bits, the word's number in the others;
 *             further sessions have SEED + 1, SEED + 2, ...
 *   -n N      sessions one after another, each on a new connection (server: connections to serve)
 *   -x N      does the steps N times
 *   -t N      threads that do so at the same time
 *   -b        a BIO of its own: OpenSSL knows no descriptor
 *   -d        non-blocking, with the smallest send buffer
 *   -p        SSL_MODE_ENABLE_PARTIAL_WRITE
 *   -k        SSL_peek or SSL_peek_ex before each read
 *   -i        TLS inside TLS: the steps are done by an inner session
 *   -h        no handshake of its own: it happens inside the first read or write
 *   -l PORT   within each library call writes a line to another connection, to PORT, from a callback
 *   -a        and reads a byte from it as an answer
 *
 * Each STEP is one of
 *   wN WN     SSL_write, SSL_write_ex of N bytes
 *   rN RN     SSL_read, SSL_read_ex, until N bytes are there
 *   g         prints "gate" and waits for a line on standard input
 *   f         forks: the child does the steps that follow
 *
 * A server prints "listening". Each session ends with a line of key=value pairs: numbers and SHA-256 sums of
 * what was written and read, and the addresses as getsockname() and getpeername() tell them. */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <openssl/ssl.h>

#include "tally.h"

#define SMALLEST_SEND_BUFFER 1 /* the kernel raises it to its minimum */

struct options {
	const char *certificate;
	uint64_t seed;
	int sessions, threads, times, log_port;
	bool bare, nonblocking, partial, peek, inner, lazy, answered, server;
	struct sockaddr_storage address;
	socklen_t address_length;
	char **steps; /* ends with NULL */
};

/* One end of a TLS session. */
struct end {
	SSL *ssl;
	const char *layer;
	int fd;
	uint64_t seed;
	uint64_t position; /* in the stream that is written */
	struct sum wrote, read;
	unsigned long waits; /* for room in the send buffer */
};

static struct options options = { .sessions = 1, .threads = 1, .times = 1 };
static SSL_CTX *context;
static BIO_METHOD *bare_method, *outer_method;
static int log_socket = -1;
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static uint64_t sessions_begun;

static void end_print(struct end *e)
{
	flockfile(stdout);
	printf("session layer=%s pid=%d ssl=%p seed=%llu waits=%lu", e->layer, getpid(), (void *)e->ssl,
	       (unsigned long long)e->seed, e->waits);
	address_print("local", e->fd, getsockname);
	address_print("remote", e->fd, getpeername);
	sum_print("wrote", &e->wrote);
	sum_print("read", &e->read);
	printf("\n");
	fflush(stdout);
	funlockfile(stdout);
}

/* --- calls of the library --------------------------------------------------------------------------- */

/* After a call that moved nothing: waits for what it asks for. */
static void end_wait(struct end *e, int result)
{
	struct pollfd wait = { .fd = e->fd };

	switch (SSL_get_error(e->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		wait.events = POLLIN;
		break;
	case SSL_ERROR_WANT_WRITE:
		wait.events = POLLOUT;
		e->waits++;
		break;
	default:
		die(e->layer);
	}
	if (poll(&wait, 1, -1) < 0)
		die("poll");
}

static void end_put(struct end *e, const unsigned char *data, size_t length, bool ex)
{
	for (size_t done = 0; done < length;) {
		size_t moved = 0;
		int result;

		if (ex) {
			result = SSL_write_ex(e->ssl, data + done, length - done, &moved);
		} else {
			result = SSL_write(e->ssl, data + done, length - done);
			moved = result > 0 ? result : 0;
		}
		if (result <= 0) {
			end_wait(e, result);
			continue;
		}
		sum_add(&e->wrote, data + done, moved);
		done += moved;
	}
}

/* One read that gives something; 0 at the end of the stream. */
static size_t end_get(struct end *e, unsigned char *data, size_t length, bool ex)
{
	size_t moved = 0;
	int result;

	for (;;) {
		if (options.peek)
			ex ? SSL_peek_ex(e->ssl, data, length, &moved) : SSL_peek(e->ssl, data, length);
		moved = 0;
		if (ex) {
			result = SSL_read_ex(e->ssl, data, length, &moved);
		} else {
			result = SSL_read(e->ssl, data, length);
			moved = result > 0 ? result : 0;
		}
		if (result > 0)
			break;
		if (SSL_get_error(e->ssl, result) == SSL_ERROR_ZERO_RETURN)
			return 0;
		end_wait(e, result);
	}
	sum_add(&e->read, data, moved);
	return moved;
}

/* --- BIOs of our own -------------------------------------------------------------------------------- */

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	return command == BIO_CTRL_FLUSH;
}

static int bare_write(BIO *bio, const char *data, int length)
{
	int result = send((intptr_t)BIO_get_data(bio), data, length, MSG_NOSIGNAL);

	BIO_clear_retry_flags(bio);
	if (result < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	return result;
}

static int bare_read(BIO *bio, char *data, int length)
{
	int result = recv((intptr_t)BIO_get_data(bio), data, length, 0);

	BIO_clear_retry_flags(bio);
	if (result < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	return result;
}

static int outer_write(BIO *bio, const char *data, int length)
{
	end_put(BIO_get_data(bio), (const unsigned char *)data, length, false);
	return length;
}

static int outer_read(BIO *bio, char *data, int length)
{
	return end_get(BIO_get_data(bio), (unsigned char *)data, length, false);
}

static BIO_METHOD *method(const char *name, int (*write)(BIO *, const char *, int),
			  int (*read)(BIO *, char *, int))
{
	BIO_METHOD *made = checked(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, name), name);

	BIO_meth_set_write(made, write);
	BIO_meth_set_read(made, read);
	BIO_meth_set_ctrl(made, bio_ctrl);
	return made;
}

static BIO *bio_over(BIO_METHOD *how, void *data)
{
	BIO *bio = checked(BIO_new(how), "BIO_new");

	BIO_set_data(bio, data);
	BIO_set_init(bio, 1);
	return bio;
}

/* --- sessions --------------------------------------------------------------------------------------- */

static void log_message(int write, int version, int type, const void *data, size_t length, SSL *ssl,
			void *argument)
{
	static const char line[] = "a message of the protocol\n";
	char answer;

	if (send(log_socket, line, sizeof(line) - 1, MSG_NOSIGNAL) < 0 ||
	    (options.answered && recv(log_socket, &answer, 1, 0) != 1))
		die("log");
}

/* A session over `outer`, or over the socket `fd` where that is NULL. */
static void end_begin(struct end *e, const char *layer, int fd, uint64_t seed, struct end *outer)
{
	*e = (struct end){ .layer = layer, .fd = fd, .seed = seed };
	sum_reset(&e->wrote);
	sum_reset(&e->read);
	e->ssl = checked(SSL_new(context), "SSL_new");
	if (outer || options.bare) {
		BIO *bio = outer ? bio_over(outer_method, outer) :
				   bio_over(bare_method, (void *)(intptr_t)fd);

		SSL_set_bio(e->ssl, bio, bio);
	} else if (!SSL_set_fd(e->ssl, fd)) {
		die("SSL_set_fd");
	}
	if (options.partial)
		SSL_set_mode(e->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	if (log_socket >= 0)
		SSL_set_msg_callback(e->ssl, log_message);
	if (options.server)
		SSL_set_accept_state(e->ssl);
	else
		SSL_set_connect_state(e->ssl);
	while (!options.lazy) {
		int result = options.server ? SSL_accept(e->ssl) : SSL_connect(e->ssl);

		if (result == 1)
			break;
		end_wait(e, result);
	}
}

/* Both sides say that they are done, so that neither's last bytes are lost by a reset. */
static void end_finish(struct end *e)
{
	unsigned char byte;

	end_print(e);
	fcntl(e->fd, F_SETFL, fcntl(e->fd, F_GETFL) & ~O_NONBLOCK);
	if (SSL_shutdown(e->ssl) == 0)
		SSL_read(e->ssl, &byte, 1);
	SSL_free(e->ssl);
}

static void write_pattern(struct end *e, size_t length, bool ex)
{
	unsigned char *data = checked(malloc(length), "malloc");

	for (size_t i = 0; i < length; i++) {
		uint64_t at = e->position + i;
		uint64_t word = e->seed << 48 | at / 8;

		data[i] = word >> (56 - at % 8 * 8);
	}
	e->position += length;
	end_put(e, data, length, ex);
	free(data);
}

static void read_all(struct end *e, size_t length, bool ex)
{
	unsigned char *data = checked(malloc(length), "malloc");

	for (size_t left = length; left > 0;) {
		size_t moved = end_get(e, data, left, ex);

		if (!moved)
			die("the stream ended early");
		left -= moved;
	}
	free(data);
}

/* The parent's part of the session is over; the process goes when the child has done the rest. */
static void hand_over(struct end *e)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child < 0)
		die("fork");
	if (child > 0) {
		int status = 0;

		waitpid(child, &status, 0);
		end_print(e);
		exit(status ? 1 : 0);
	}
	sum_reset(&e->wrote);
	sum_reset(&e->read);
}

static void do_step(struct end *e, char kind, size_t length)
{
	if (kind == 'w' || kind == 'W') {
		write_pattern(e, length, kind == 'W');
	} else if (kind == 'r' || kind == 'R') {
		read_all(e, length, kind == 'R');
	} else if (kind == 'f') {
		hand_over(e);
	} else if (kind == 'g') {
		puts("gate");
		fflush(stdout);
		while (getchar() != '\n')
			if (feof(stdin))
				die("standard input ended");
	} else {
		die("unknown step");
	}
}

static void do_steps(struct end *e)
{
	for (int i = 0; i < options.times; i++)
		for (char **step = options.steps; *step; step++)
			do_step(e, **step, strtoull(*step + 1, NULL, 10));
}

static void do_session(int fd)
{
	struct end outer, inner;
	uint64_t seed;

	pthread_mutex_lock(&counting);
	seed = options.seed + sessions_begun++;
	pthread_mutex_unlock(&counting);
	if (options.nonblocking)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (options.inner) {
		end_begin(&outer, "outer", fd, seed, NULL);
		end_begin(&inner, "inner", fd, seed, &outer);
		do_steps(&inner);
		end_finish(&inner);
		end_finish(&outer);
	} else {
		end_begin(&outer, "only", fd, seed, NULL);
		do_steps(&outer);
		end_finish(&outer);
	}
	close(fd);
}

/* --- client and server ------------------------------------------------------------------------------ */

static int tcp_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int room = SMALLEST_SEND_BUFFER, one = 1;

	if (fd < 0)
		die("socket");
	if (options.server && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)))
		die("SO_REUSEADDR");
	if (options.nonblocking && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)))
		die("SO_SNDBUF");
	return fd;
}

static void *client_thread(void *argument)
{
	for (int i = 0; i < options.sessions; i++) {
		int fd = tcp_socket(options.address.ss_family);

		if (connect(fd, (struct sockaddr *)&options.address, options.address_length))
			die("connect");
		do_session(fd);
	}
	return NULL;
}

static void *server_thread(void *argument)
{
	do_session((intptr_t)argument);
	return NULL;
}

static void run(void)
{
	int count = options.server ? options.sessions * options.threads : options.threads;
	pthread_t *threads = checked(calloc(count, sizeof(*threads)), "calloc");
	int listener = -1;

	if (options.server) {
		listener = tcp_socket(options.address.ss_family);
		if (bind(listener, (struct sockaddr *)&options.address, options.address_length) ||
		    listen(listener, 128))
			die("listen");
		puts("listening");
		fflush(stdout);
	}
	for (int i = 0; i < count; i++) {
		intptr_t fd = options.server ? accept(listener, NULL, NULL) : 0;

		if (fd < 0)
			die("accept");
		if (pthread_create(&threads[i], NULL, options.server ? server_thread : client_thread,
				   (void *)fd))
			die("pthread_create");
	}
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

static void prepare(void)
{
	const SSL_METHOD *side = options.server ? TLS_server_method() : TLS_client_method();

	context = checked(SSL_CTX_new(side), "SSL_CTX_new");
	if (options.server) {
		if (SSL_CTX_use_certificate_file(context, options.certificate, SSL_FILETYPE_PEM) != 1 ||
		    SSL_CTX_use_PrivateKey_file(context, options.certificate, SSL_FILETYPE_PEM) != 1)
			die(options.certificate);
		/* Nobody would read them, and a connection closed with unread bytes is reset. */
		SSL_CTX_set_num_tickets(context, 0);
	}
	bare_method = method("bare", bare_write, bare_read);
	outer_method = method("outer", outer_write, outer_read);
	if (options.log_port) {
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(options.log_port),
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

		log_socket = socket(AF_INET, SOCK_STREAM, 0);
		if (log_socket < 0 || connect(log_socket, (struct sockaddr *)&to, sizeof(to)))
			die("log");
	}
}

static void set_address(const char *text, const char *port)
{
	struct sockaddr_in *v4 = (void *)&options.address;
	struct sockaddr_in6 *v6 = (void *)&options.address;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(atoi(port));
		options.address_length = sizeof(*v4);
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(atoi(port));
		options.address_length = sizeof(*v6);
	} else {
		die(text);
	}
}

int main(int argc, char **argv)
{
	for (int letter; (letter = getopt(argc, argv, "+c:s:n:t:x:l:abdpkih")) != -1;) {
		switch (letter) {
		case 'c': options.certificate = optarg; break;
		case 's': options.seed = atoi(optarg); break;
		case 'n': options.sessions = atoi(optarg); break;
		case 't': options.threads = atoi(optarg); break;
		case 'x': options.times = atoi(optarg); break;
		case 'l': options.log_port = atoi(optarg); break;
		case 'a': options.answered = true; break;
		case 'b': options.bare = true; break;
		case 'd': options.nonblocking = true; break;
		case 'p': options.partial = true; break;
		case 'k': options.peek = true; break;
		case 'i': options.inner = true; break;
		case 'h': options.lazy = true; break;
		default: return 2;
		}
	}
	if (argc - optind < 3)
		return 2;
	options.server = strcmp(argv[optind], "server") == 0;
	set_address(argv[optind + 1], argv[optind + 2]);
	options.steps = argv + optind + 3;
	prepare();
	run();
	return 0;
}
