/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A client of tlsmove's server whose sessions are easily taken for being on another socket than theirs.
 *
 * usage: bindings WAY WHAT SERVER OTHER
 *   WAY     how a session's records leave, see bindings_ways.h
 *   WHAT    plain      one session
 *           log        callbacks write a line to a connection with OTHER, and read a byte from it
 *           fetch      they make a new connection for it each time
 *           session    they hold another session of the same library, with OTHER, from its begin to its end
 *           inside     they write and read by a session with OTHER that was there before
 *           turns      two sessions, the second with OTHER, write and read by turns
 *           late       the descriptor is given before it is connected
 *           again      after the end of the session its SSL serves another, with OTHER, after SSL_clear()
 *           lazily     so, and the handshake is made within the first write
 *           dup        the session has a duplicate of the descriptor, which is given to another file after
 *           passed     another process gets the descriptor, and has the session
 *           forked     two processes have the session, one after the other
 *           fibers     a BIO goes on with another stack of the thread, which passes a record to OTHER
 *   SERVER, OTHER    ports of 127.0.0.1. There each session writes and reads TALK bytes; OTHER answers lines
 *           where WHAT is log or fetch, and takes all where it is fibers.
 *
 * Tells of each session what tlsmove tells. */
#include <sys/wait.h>
#include <ucontext.h>

#include "bindings_ways.h"

#define TALK 3000 /* bytes each way */
#define CALLS 3 /* in which they are written */
#define STACK (256 * 1024)

static enum what {
	PLAIN, LOG, FETCH, SESSION, INSIDE, TURNS, LATE, AGAIN, LAZILY, DUP, PASSED, FORKED, FIBERS
} what;
static const char *const whats[] = {
	"plain", "log", "fetch", "session", "inside", "turns", "late", "again", "lazily", "dup", "passed",
	"forked", "fibers",
};
static int server_port, other_port;
static SSL_CTX *context;
static int log_socket = -1;
static struct end inside; /* where callbacks write and read */
static bool disturbing; /* a callback is running */

/* --- a session -------------------------------------------------------------------------------------- */

static void end_new(struct end *e, const char *layer, int fd)
{
	*e = (struct end){ .layer = layer, .fd = fd };
	sum_reset(&e->wrote);
	sum_reset(&e->read);
	e->ssl = checked(SSL_new(context), "SSL_new");
	SSL_set_connect_state(e->ssl);
	way_open(e);
}

static void end_print(struct end *e)
{
	flockfile(stdout);
	printf("session layer=%s pid=%d ssl=%p seed=0 waits=0", e->layer, getpid(), (void *)e->ssl);
	address_print("local", e->fd, getsockname);
	address_print("remote", e->fd, getpeername);
	sum_print("wrote", &e->wrote);
	sum_print("read", &e->read);
	printf("\n");
	fflush(stdout);
	funlockfile(stdout);
	e->wrote.sha256 = e->read.sha256 = NULL;
}

static int call_handshake(struct end *e, void *data, int length)
{
	return SSL_do_handshake(e->ssl);
}

static int call_write(struct end *e, void *data, int length)
{
	return SSL_write(e->ssl, data, length);
}

static int call_read(struct end *e, void *data, int length)
{
	return SSL_read(e->ssl, data, length);
}

static void end_handshake(struct end *e)
{
	way_call(e, call_handshake, NULL, 0);
}

static void end_write(struct end *e, size_t length)
{
	static uint64_t written;
	unsigned char data[TALK];

	for (size_t i = 0; i < length; i++)
		data[i] = written++ * 0x9E3779B97F4A7C15 >> 56;
	if (way_call(e, call_write, data, length) != (int)length)
		die("SSL_write");
	sum_add(&e->wrote, data, length);
}

static void end_read(struct end *e, size_t length)
{
	unsigned char data[TALK];

	while (length) {
		int moved = way_call(e, call_read, data, length);

		sum_add(&e->read, data, moved);
		length -= moved;
	}
}

static void end_talk(struct end *e)
{
	for (int i = 0; i < CALLS; i++)
		end_write(e, TALK / CALLS);
	end_read(e, TALK);
}

/* Both sides say that they are done. */
static void end_close(struct end *e)
{
	unsigned char byte;

	end_print(e);
	SSL_shutdown(e->ssl);
	way_flush(e);
	way_call(e, call_read, &byte, -1);
}

static void end_free(struct end *e)
{
	SSL_free(e->ssl);
	way_close(e);
}

static void session_with(const char *layer, int port)
{
	struct end e;

	end_new(&e, layer, tcp_connect(port));
	end_handshake(&e);
	end_talk(&e);
	end_close(&e);
	end_free(&e);
}

/* --- callbacks -------------------------------------------------------------------------------------- */

static void tell(int fd)
{
	static const char line[] = "something happens\n";
	char answer;

	if (send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL) < 0 || recv(fd, &answer, 1, 0) != 1)
		die("log");
}

/* Does what is to be taken for the session's doing. */
static void disturb(const char *layer)
{
	int fd;

	if (disturbing)
		return;
	disturbing = true;
	switch (what) {
	case LOG:
		tell(log_socket);
		break;
	case FETCH:
		tell(fd = tcp_connect(other_port));
		close(fd);
		break;
	case SESSION:
		session_with(layer, other_port);
		break;
	case INSIDE:
		end_write(&inside, 1);
		end_read(&inside, 1);
		break;
	default:
		break;
	}
	disturbing = false;
}

static void on_info(const SSL *ssl, int where, int result)
{
	if (where & (SSL_CB_HANDSHAKE_START | SSL_CB_HANDSHAKE_DONE))
		disturb("info");
}

static void on_message(int write, int version, int type, const void *data, size_t length, SSL *ssl,
		       void *argument)
{
	/* A session for each record would take long. */
	if (what != SESSION)
		disturb("message");
}

static int on_verify(int good, X509_STORE_CTX *store)
{
	disturb("verify");
	return 1;
}

/* --- other things that happen to sessions ----------------------------------------------------------- */

static void by_turns(void)
{
	struct end a, b;

	end_new(&a, "first", tcp_connect(server_port));
	end_new(&b, "second", tcp_connect(other_port));
	end_handshake(&a);
	end_handshake(&b);
	for (int i = 0; i < CALLS; i++) {
		end_write(&a, TALK / CALLS);
		end_write(&b, TALK / CALLS);
	}
	for (int i = 0; i < TALK; i += TALK / CALLS) {
		end_read(&b, TALK / CALLS);
		end_read(&a, TALK / CALLS);
	}
	end_close(&a);
	end_close(&b);
	end_free(&b);
	end_free(&a);
}

/* One SSL for two connections. */
static void twice(void)
{
	struct end e;

	end_new(&e, "first", tcp_connect(server_port));
	end_handshake(&e);
	end_talk(&e);
	end_close(&e);
	way_close(&e);
	if (!SSL_clear(e.ssl))
		die("SSL_clear");
	e.layer = "second";
	/* With the number, and likely the memory, of the first. */
	e.fd = tcp_connect(other_port);
	sum_reset(&e.wrote);
	sum_reset(&e.read);
	way_open(&e);
	if (what == AGAIN)
		end_handshake(&e);
	end_talk(&e);
	end_close(&e);
	end_free(&e);
}

static void connected_late(void)
{
	struct end e;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	end_new(&e, "only", fd);
	tcp_connect_by(fd, server_port);
	end_handshake(&e);
	end_talk(&e);
	end_close(&e);
	end_free(&e);
}

static void duplicated(void)
{
	struct end e;
	int fd = tcp_connect(server_port), other = tcp_connect(other_port);

	end_new(&e, "only", dup2(fd, 100));
	close(fd);
	/* The number that it had first is another connection's now. */
	if (dup2(other, fd) != fd)
		die("dup2");
	end_handshake(&e);
	tell(fd);
	end_talk(&e);
	tell(fd);
	end_close(&e);
	end_free(&e);
}

static void passed_on(void)
{
	int pair[2], status;
	char byte = 0, room[CMSG_SPACE(sizeof(int))] = {};
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room,
				  .msg_controllen = sizeof(room) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	struct end e;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || (child = fork()) < 0)
		die("child");
	if (child == 0) {
		if (recvmsg(pair[1], &message, 0) != 1)
			die("recvmsg");
		end_new(&e, "only", *(int *)CMSG_DATA(header));
		end_handshake(&e);
		end_talk(&e);
		end_close(&e);
		exit(0);
	}
	*header = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	*(int *)CMSG_DATA(header) = tcp_connect(server_port);
	if (sendmsg(pair[0], &message, 0) != 1 || close(*(int *)CMSG_DATA(header)))
		die("sendmsg");
	if (waitpid(child, &status, 0) != child || status)
		die("the other process");
}

static void forked(void)
{
	struct end e;
	pid_t child;
	int status;

	end_new(&e, "parent", tcp_connect(server_port));
	end_handshake(&e);
	end_write(&e, TALK);
	fflush(stdout);
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		e.layer = "child";
		sum_reset(&e.wrote);
		sum_reset(&e.read);
		end_read(&e, TALK);
		end_close(&e);
		exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		die("the child");
	end_print(&e);
}

/* --- several stacks --------------------------------------------------------------------------------- */

static ucontext_t first_stack, second_stack;

/* Passes on what looks like a record, each time that the session's BIO lets it. */
static void pass_records(void)
{
	static const unsigned char record[40] = { 23, 3, 3, 0, 35 };
	int fd = tcp_connect(other_port);

	for (;;) {
		if (send(fd, record, sizeof(record), MSG_NOSIGNAL) != sizeof(record))
			die("fiber");
		swapcontext(&second_stack, &first_stack);
	}
}

static void yield(void)
{
	if (what == FIBERS)
		swapcontext(&first_stack, &second_stack);
}

static void with_fibers(void)
{
	getcontext(&second_stack);
	second_stack.uc_stack.ss_sp = checked(malloc(STACK), "malloc");
	second_stack.uc_stack.ss_size = STACK;
	makecontext(&second_stack, pass_records, 0);
	session_with("only", server_port);
}

/* ---------------------------------------------------------------------------------------------------- */

static void prepare(void)
{
	context = checked(SSL_CTX_new(TLS_client_method()), "SSL_CTX_new");
	way_yields = yield;
	way_tap = other_port;
	if (what == LOG)
		log_socket = tcp_connect(other_port);
	if (what == INSIDE) {
		end_new(&inside, "inside", tcp_connect(other_port));
		end_handshake(&inside);
	}
	if (what == LOG || what == FETCH || what == SESSION || what == INSIDE) {
		SSL_CTX_set_info_callback(context, on_info);
		SSL_CTX_set_msg_callback(context, on_message);
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, on_verify);
	}
}

int main(int argc, char **argv)
{
	int found = 0;

	if (argc != 5 || !way_choose(argv[1]))
		return 2;
	while (strcmp(whats[found], argv[2]))
		if (++found == sizeof(whats) / sizeof(*whats))
			return 2;
	what = found;
	server_port = atoi(argv[3]);
	other_port = atoi(argv[4]);
	prepare();
	switch (what) {
	case TURNS: by_turns(); break;
	case LATE: connected_late(); break;
	case AGAIN:
	case LAZILY: twice(); break;
	case DUP: duplicated(); break;
	case PASSED: passed_on(); break;
	case FORKED: forked(); break;
	case FIBERS: with_fibers(); break;
	default: session_with("only", server_port); break;
	}
	if (what == INSIDE) {
		disturbing = true;
		end_close(&inside);
	}
	return 0;
}
