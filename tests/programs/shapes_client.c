/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Functions with the names and call shapes of libraries that Debian doesn't have, or that need a kernel with
 * TLS. What they send looks like records, but is not encrypted, and each is as long as it may be asked for.
 * SETUP: string, short: in which way the protocol is told.
 * Ways to write: w, v: s2n_send, s2n_sendv; e: SSL_write_ex2; f: SSL_sendfile; a:
 * gnutls_record_send_early_data. To read: r: s2n_recv. */
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "client.h"

#define API __attribute__((noipa))

struct session {
	int fd;
};

const char library_reads[] = "r";

static struct session *session;

/* Sends `count` parts with the header of a record of application data before them. */
static ssize_t put(struct session *s, const struct iovec *parts, size_t count)
{
	static const uint8_t header[5] = { 23, 3, 3, 64, 0 };
	struct iovec all[3] = { { (void *)header, sizeof(header) } };
	ssize_t sent;

	memcpy(all + 1, parts, count * sizeof(*parts));
	sent = writev(s->fd, all, 1 + count);
	return sent > (ssize_t)sizeof(header) ? sent - (ssize_t)sizeof(header) : -1;
}

static ssize_t put_one(struct session *s, const void *data, size_t length)
{
	struct iovec part = { (void *)data, length };

	return put(s, &part, 1);
}

API struct session *s2n_connection_new(int mode)
{
	return calloc(1, sizeof(struct session));
}

API int s2n_connection_set_fd(struct session *s, int fd)
{
	s->fd = fd;
	return 0;
}

API int s2n_set_server_name(struct session *s, const char *name)
{
	return s->fd && name[0] ? 0 : -1;
}

API const char *s2n_get_application_protocol(struct session *s)
{
	return s->fd ? PROTOCOL : NULL;
}

API int s2n_negotiate(struct session *s, int *blocked)
{
	return *blocked = 0;
}

API ssize_t s2n_sendv_with_offset(struct session *s, const struct iovec *parts, ssize_t count, ssize_t offset,
				  int *blocked)
{
	return *blocked = 0, put(s, parts, count);
}

API ssize_t s2n_sendv(struct session *s, const struct iovec *parts, ssize_t count, int *blocked)
{
	return s2n_sendv_with_offset(s, parts, count, 0, blocked);
}

API ssize_t s2n_send(struct session *s, const void *data, ssize_t length, int *blocked)
{
	struct iovec part = { (void *)data, length };

	return s2n_sendv_with_offset(s, &part, 1, 0, blocked);
}

API ssize_t s2n_recv(struct session *s, void *data, ssize_t size, int *blocked)
{
	return recv(s->fd, data, size, *blocked = 0);
}

API int s2n_connection_free(struct session *s)
{
	free(s);
	return 0;
}

API int wolfSSL_read(struct session *s, void *data, int size)
{
	return recv(s->fd, data, size, 0);
}

API int wolfSSL_write(struct session *s, const void *data, int length)
{
	return put_one(s, data, length);
}

API int wolfSSL_negotiate(struct session *s)
{
	return s->fd;
}

API int wolfSSL_ALPN_GetProtocol(struct session *s, char **name, unsigned short *length)
{
	*name = PROTOCOL;
	*length = strlen(PROTOCOL);
	return s->fd > 0;
}

API int SSL_do_handshake(struct session *s)
{
	return s->fd;
}

API int SSL_read(struct session *s, void *data, int size)
{
	return recv(s->fd, data, size, 0);
}

API int SSL_write_ex2(struct session *s, const void *data, size_t length, uint64_t flags, size_t *written)
{
	*written = put_one(s, data, length);
	return *written == length;
}

API int SSL_write(struct session *s, const void *data, int length)
{
	size_t written;

	return SSL_write_ex2(s, data, length, 0, &written) ? (int)written : -1;
}

API ssize_t SSL_sendfile(struct session *s, int fd, off_t offset, size_t length, int flags)
{
	char data[4096];
	ssize_t got = pread(fd, data, length < sizeof(data) ? length : sizeof(data), offset);

	return got > 0 ? put_one(s, data, got) : got;
}

API ssize_t gnutls_record_send(struct session *s, const void *data, size_t length)
{
	return put_one(s, data, length);
}

API ssize_t gnutls_record_recv(struct session *s, void *data, size_t size)
{
	return recv(s->fd, data, size, 0);
}

API int gnutls_handshake(struct session *s)
{
	return s->fd;
}

API ssize_t gnutls_record_send_early_data(struct session *s, const void *data, size_t length)
{
	return put_one(s, data, length) == (ssize_t)length ? 0 : -1;
}

void *library_open(int fd, const char *setup)
{
	struct {
		unsigned short length, other;
	} told = { .other = 0xffff };
	char *name;
	int blocked;

	session = s2n_connection_new(1);
	s2n_connection_set_fd(session, fd);
	s2n_set_server_name(session, HOST);
	s2n_negotiate(session, &blocked);
	if (!strcmp(setup, "short"))
		wolfSSL_ALPN_GetProtocol(session, &name, &told.length);
	else
		s2n_get_application_protocol(session);
	return session;
}

size_t library_write(char way, const uint8_t *data, size_t length)
{
	struct iovec parts[] = {
		{ (void *)data, length / 2 },
		{ (void *)(data + length / 2), length - length / 2 },
	};
	char name[] = "/tmp/tlsmove-XXXXXX";
	ssize_t moved = -1;
	size_t written;
	int blocked, file;

	switch (way) {
	case 'w':
		moved = s2n_send(session, data, length, &blocked);
		break;
	case 'v':
		moved = s2n_sendv(session, parts, 2, &blocked);
		break;
	case 'e':
		moved = SSL_write_ex2(session, data, length, 0, &written) ? (ssize_t)written : -1;
		break;
	case 'a':
		moved = gnutls_record_send_early_data(session, data, length) ? -1 : (ssize_t)length;
		break;
	case 'f':
		file = mkstemp(name);
		unlink(name);
		if (write(file, data, length) == (ssize_t)length)
			moved = SSL_sendfile(session, file, 0, length, 0);
		close(file);
		break;
	}
	if (moved <= 0)
		fail("write", way);
	return moved;
}

size_t library_read(char way, uint8_t *data, size_t size)
{
	int blocked;
	ssize_t moved = s2n_recv(session, data, size, &blocked);

	if (moved <= 0)
		fail("s2n_recv", moved);
	return moved;
}

void library_close(void)
{
	s2n_connection_free(session);
}
