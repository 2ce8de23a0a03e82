/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SETUP: int, ptr: the library uses the descriptor; push: it uses functions of the program.
 * Ways to write: w, s: gnutls_record_send, gnutls_record_send2; c: in three parts, corked; n: non-blocking,
 * and gone on with by a call that gives no data. To read: r, q, p: gnutls_record_recv,
 * gnutls_record_recv_seq, gnutls_record_recv_packet; u: the same as p, but what came is not looked at. */
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <gnutls/gnutls.h>

#include "client.h"

const char library_reads[] = "rqpu";

static gnutls_session_t session;
static int descriptor;
static char at_will[] = "what the program's functions want";

static ssize_t push(gnutls_transport_ptr_t at, const void *data, size_t length)
{
	return at == at_will ? send(descriptor, data, length, 0) : -1;
}

static ssize_t pull(gnutls_transport_ptr_t at, void *data, size_t size)
{
	return at == at_will ? recv(descriptor, data, size, 0) : -1;
}

static int pull_timeout(gnutls_transport_ptr_t at, unsigned int ms)
{
	struct pollfd ready = { .fd = descriptor, .events = POLLIN };

	return at == at_will ? poll(&ready, 1, ms == GNUTLS_INDEFINITE_TIMEOUT ? -1 : (int)ms) : -1;
}

void *library_open(int fd, const char *setup)
{
	static gnutls_certificate_credentials_t credentials;
	gnutls_datum_t protocol = { (unsigned char *)PROTOCOL, strlen(PROTOCOL) };
	int result;

	descriptor = fd;
	gnutls_certificate_allocate_credentials(&credentials);
	gnutls_init(&session, GNUTLS_CLIENT);
	gnutls_set_default_priority(session);
	gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
	gnutls_server_name_set(session, GNUTLS_NAME_DNS, HOST, strlen(HOST));
	gnutls_alpn_set_protocols(session, &protocol, 1, 0);
	if (!strcmp(setup, "int")) {
		gnutls_transport_set_int(session, fd);
	} else if (!strcmp(setup, "ptr")) {
		gnutls_transport_set_ptr(session, (gnutls_transport_ptr_t)(intptr_t)fd);
	} else {
		gnutls_transport_set_push_function(session, push);
		gnutls_transport_set_pull_function(session, pull);
		gnutls_transport_set_pull_timeout_function(session, pull_timeout);
		gnutls_transport_set_ptr(session, at_will);
	}
	do
		result = gnutls_handshake(session);
	while (result < 0 && !gnutls_error_is_fatal(result));
	if (result < 0)
		fail("gnutls_handshake", result);
	gnutls_alpn_get_selected_protocol(session, &protocol);
	return session;
}

static void send_corked(const uint8_t *data, size_t length)
{
	size_t part = length / 3;
	int result;

	gnutls_record_cork(session);
	for (int i = 0; i < 3; i++, data += part)
		if (gnutls_record_send(session, data, i < 2 ? part : length - 2 * part) < 0)
			fail("gnutls_record_send, corked", i);
	result = gnutls_record_uncork(session, GNUTLS_RECORD_WAIT);
	if (result < 0)
		fail("gnutls_record_uncork", result);
}

static ssize_t send_nonblocking(const uint8_t *data, size_t length)
{
	int smallest = 1, flags = fcntl(descriptor, F_GETFL);
	ssize_t moved;

	setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
	fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
	moved = gnutls_record_send(session, data, length);
	while (moved == GNUTLS_E_AGAIN) {
		struct pollfd room = { .fd = descriptor, .events = POLLOUT };

		library_waits++;
		poll(&room, 1, -1);
		moved = gnutls_record_send(session, NULL, 0);
	}
	fcntl(descriptor, F_SETFL, flags);
	return moved;
}

size_t library_write(char way, const uint8_t *data, size_t length)
{
	ssize_t moved = length;

	if (way == 'w')
		moved = gnutls_record_send(session, data, length);
	else if (way == 's')
		moved = gnutls_record_send2(session, data, length, 16, 0);
	else if (way == 'c')
		send_corked(data, length);
	else
		moved = send_nonblocking(data, length);
	if (moved <= 0)
		fail("write", moved);
	return moved;
}

static ssize_t read_packet(char way, uint8_t *data)
{
	gnutls_packet_t packet;
	gnutls_datum_t bytes;
	ssize_t moved = gnutls_record_recv_packet(session, &packet);

	if (moved <= 0)
		return moved;
	for (int i = 0; i < 2 && way == 'p'; i++) {
		gnutls_packet_get(packet, &bytes, NULL);
		memcpy(data, bytes.data, bytes.size);
	}
	gnutls_packet_deinit(packet);
	return moved;
}

size_t library_read(char way, uint8_t *data, size_t size)
{
	unsigned char sequence[8];
	ssize_t moved;

	do {
		if (way == 'r')
			moved = gnutls_record_recv(session, data, size);
		else if (way == 'q')
			moved = gnutls_record_recv_seq(session, data, size, sequence);
		else
			moved = read_packet(way, data);
	} while (moved < 0 && !gnutls_error_is_fatal(moved));
	if (moved <= 0)
		fail("read", moved);
	return moved;
}

void library_close(void)
{
	gnutls_bye(session, GNUTLS_SHUT_WR);
	gnutls_deinit(session);
}
