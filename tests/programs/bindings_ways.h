/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The ways by which the records of bindings.c leave:
 *
 *   fd         SSL_set_fd
 *   socket     BIO_new_socket, given to SSL_set_bio
 *   custom     a BIO of the program's own
 *   buffer     BIO_f_buffer in front of a socket's BIO
 *   memory     memory BIOs: the program itself sends and receives; so with all that follow
 *   pair       BIO_new_bio_pair
 *   write      write() and read()
 *   writev     in two pieces, and a piece of no bytes in front
 *   message    sendmsg()
 *   copied     first to a file, a pipe and a UNIX socket
 *   relay      by a connection with a thread of the program, which passes them on over another
 *   framed     so, and before the record the thread is told its length, by the same writev()
 *   tapped     first to whoever listens on way_tap
 *   local      by a pair of UNIX sockets, to such a thread
 *   u_send, u_sendmsg, u_write, u_writev, u_fixed, u_polled
 *              by io_uring: the last two with a registered file, and sent by a thread of the kernel */
#ifndef BINDINGS_WAYS_H
#define BINDINGS_WAYS_H

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/uio.h>

#include <openssl/ssl.h>

#include "tally.h"
#include "uring.h"

#define ROOM 65536

/* One end of a TLS session. */
struct end {
	SSL *ssl;
	const char *layer;
	int fd; /* of its connection */
	BIO *outside; /* of a BIO pair */
	struct sum wrote, read;
	struct uring ring;
	bool has_ring;
};

enum way {
	FD, SOCKET, CUSTOM, BUFFER, MEMORY, PAIR, WRITE, WRITEV, MESSAGE, COPIED, RELAY, FRAMED, TAPPED,
	LOCAL,
	URING /* the others are variants of it */
};
static const char *const ways[] = {
	"fd", "socket", "custom", "buffer", "memory", "pair", "write", "writev", "message", "copied", "relay",
	"framed", "tapped", "local",
};
static enum way way;
static struct uring_way uring_way;
static int way_tap; /* a port of 127.0.0.1 */
static void (*way_yields)(void); /* is called before a BIO of the program's own receives */

static bool way_choose(const char *name)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(name, ways[i]))
			return way = i, true;
	return way = URING, uring_choose(&uring_way, name);
}

/* --- connections ------------------------------------------------------------------------------------ */

static void tcp_connect_by(int fd, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("connect");
}

struct relay {
	int near, far;
};

static void all_sent(int fd, const char *data, size_t length)
{
	if (send(fd, data, length, MSG_NOSIGNAL) != (ssize_t)length)
		die("relay");
}

static void *relay_out(void *argument)
{
	struct relay *relay = argument;
	static __thread char data[ROOM];
	uint32_t length;
	ssize_t got;

	while ((got = way == FRAMED ? recv(relay->near, &length, 4, MSG_WAITALL) :
				      recv(relay->near, data, sizeof(data), 0)) > 0) {
		if (way == FRAMED)
			got = recv(relay->near, data, length, MSG_WAITALL);
		all_sent(relay->far, data, got);
	}
	return NULL;
}

static void *relay_in(void *argument)
{
	struct relay *relay = argument;
	static __thread char data[ROOM];
	ssize_t got;

	while ((got = recv(relay->far, data, sizeof(data), 0)) > 0)
		all_sent(relay->near, data, got);
	return NULL;
}

static void relay_start(int near, int far)
{
	struct relay *relay = checked(malloc(sizeof(*relay)), "malloc");
	pthread_t thread;

	*relay = (struct relay){ near, far };
	if (pthread_create(&thread, NULL, relay_out, relay) || pthread_create(&thread, NULL, relay_in, relay))
		die("pthread_create");
}

/* Two ends of a TCP connection within the program. */
static void tcp_pair(int pair[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		die("listen");
	pair[0] = socket(AF_INET, SOCK_STREAM, 0);
	tcp_connect_by(pair[0], ntohs(address.sin_port));
	pair[1] = accept(listener, NULL, NULL);
	close(listener);
}

static int tcp_connect(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), pair[2];

	tcp_connect_by(fd, port);
	if (way != RELAY && way != FRAMED)
		return fd;
	tcp_pair(pair);
	relay_start(pair[1], fd);
	return pair[0];
}

/* --- by the library --------------------------------------------------------------------------------- */

static int custom_write(BIO *bio, const char *data, int length)
{
	return send((intptr_t)BIO_get_data(bio), data, length, MSG_NOSIGNAL);
}

static int custom_read(BIO *bio, char *data, int length)
{
	way_yields();
	return recv((intptr_t)BIO_get_data(bio), data, length, 0);
}

static long custom_ctrl(BIO *bio, int command, long number, void *pointer)
{
	return command == BIO_CTRL_FLUSH;
}

static BIO *custom_bio(int fd)
{
	static BIO_METHOD *method;
	BIO *bio;

	if (!method) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "custom");
		method = checked(method, "BIO_meth_new");
		BIO_meth_set_write(method, custom_write);
		BIO_meth_set_read(method, custom_read);
		BIO_meth_set_ctrl(method, custom_ctrl);
	}
	bio = checked(BIO_new(method), "BIO_new");
	BIO_set_data(bio, (void *)(intptr_t)fd);
	BIO_set_init(bio, 1);
	return bio;
}

static BIO *socket_bio(int fd)
{
	return checked(BIO_new_socket(fd, BIO_NOCLOSE), "BIO_new_socket");
}

/* Gives the session its BIOs. */
static void way_open(struct end *e)
{
	BIO *bio = NULL;

	if (way == FD) {
		if (!SSL_set_fd(e->ssl, e->fd))
			die("SSL_set_fd");
		return;
	}
	if (way == SOCKET)
		bio = socket_bio(e->fd);
	else if (way == CUSTOM)
		bio = custom_bio(e->fd);
	else if (way == BUFFER)
		bio = BIO_push(checked(BIO_new(BIO_f_buffer()), "BIO_f_buffer"), socket_bio(e->fd));
	else if (way == PAIR && !BIO_new_bio_pair(&bio, 0, &e->outside, 0))
		die("BIO_new_bio_pair");
	if (bio)
		SSL_set_bio(e->ssl, bio, bio);
	else
		SSL_set_bio(e->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}

static void way_close(struct end *e)
{
	close(e->fd);
	BIO_free(e->outside);
	e->outside = NULL;
	if (e->has_ring)
		uring_close(&e->ring);
	e->has_ring = false;
}

/* --- by the program --------------------------------------------------------------------------------- */

/* To others who are not the peer. */
static void copies_go(const char *data, size_t length)
{
	static int pipes[2], sockets[2], file = -1, tap;

	if (file < 0 && ((file = open("/dev/null", O_WRONLY)) < 0 || pipe(pipes) ||
			 socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)))
		die("copies");
	if (way == TAPPED) {
		if (!tap)
			tap = tcp_connect(way_tap);
		all_sent(tap, data, length);
		return;
	}
	if (write(file, data, length) < 0 || write(pipes[1], data, length) < 0 ||
	    write(sockets[0], data, length) < 0)
		die("copies");
}

/* The socket of a session whose records a thread passes on. */
static int local_socket(struct end *e)
{
	static struct {
		int of, near;
	} known[8];
	static int count;
	int pair[2];

	for (int i = 0; i < count; i++)
		if (known[i].of == e->fd)
			return known[i].near;
	if (count == 8 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	known[count].of = e->fd;
	relay_start(pair[1], e->fd);
	return known[count++].near = pair[0];
}

static void records_go(struct end *e, char *data, size_t length)
{
	uint32_t told = length;
	struct iovec pieces[] = { { data, 0 }, { data, length - 1 }, { data + length - 1, 1 } };
	struct iovec framed[] = { { &told, 4 }, { data, length } };
	struct msghdr message = { .msg_iov = framed + 1, .msg_iovlen = 1 };

	switch (way) {
	case WRITE:
		if (write(e->fd, data, length) != (ssize_t)length)
			die("write");
		break;
	case WRITEV:
		if (writev(e->fd, pieces, 3) != (ssize_t)length)
			die("writev");
		break;
	case MESSAGE:
		if (sendmsg(e->fd, &message, MSG_NOSIGNAL) != (ssize_t)length)
			die("sendmsg");
		break;
	case FRAMED:
		if (writev(e->fd, framed, 2) != (ssize_t)length + 4)
			die("writev");
		break;
	case LOCAL:
		all_sent(local_socket(e), data, length);
		break;
	case URING:
		if (!e->has_ring)
			uring_open(&e->ring, &uring_way, e->fd);
		e->has_ring = true;
		if (uring_send(&e->ring, &uring_way, e->fd, data, length) != (int)length)
			die("io_uring");
		break;
	case COPIED:
	case TAPPED:
		copies_go(data, length);
		/* fall through */
	default:
		all_sent(e->fd, data, length);
	}
}

/* Sends what the library has written. */
static void way_flush(struct end *e)
{
	static __thread char data[ROOM];
	BIO *from = way == PAIR ? e->outside : SSL_get_wbio(e->ssl);
	int length;

	if (way < MEMORY) {
		(void)BIO_flush(from);
		return;
	}
	while ((length = BIO_read(from, data, sizeof(data))) > 0)
		records_go(e, data, length);
}

static bool way_receive(struct end *e)
{
	static __thread char data[ROOM];
	int fd = way == LOCAL ? local_socket(e) : e->fd;
	ssize_t got = way == WRITE ? read(fd, data, 10000) : recv(fd, data, 10000, 0);
	BIO *to = way == PAIR ? e->outside : SSL_get_rbio(e->ssl);

	if (got < 0)
		die("recv");
	return got > 0 && BIO_write(to, data, got) == got;
}

/* Makes a call until it has done something. With a negative length the end of the stream is that too. */
static int way_call(struct end *e, int (*call)(struct end *, void *, int), void *data, int length)
{
	for (;;) {
		int result = call(e, data, length < 0 ? -length : length);

		way_flush(e);
		if (result > 0)
			return result;
		switch (SSL_get_error(e->ssl, result)) {
		case SSL_ERROR_WANT_READ:
			if (way_receive(e))
				continue;
			/* fall through */
		default:
			if (length >= 0)
				die("call");
			return 0;
		case SSL_ERROR_WANT_WRITE:
			continue;
		}
	}
}

#endif
