/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SETUP: any. Ways to write: w, s, v: wolfSSL_write, wolfSSL_send, wolfSSL_writev. To read: r, p:
 * wolfSSL_read, wolfSSL_recv after wolfSSL_peek. */
#include <sys/uio.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "client.h"

const char library_reads[] = "rp";

static WOLFSSL *ssl;

void *library_open(int fd, const char *setup)
{
	char protocols[] = PROTOCOL;
	WOLFSSL_CTX *context;

	wolfSSL_Init();
	context = wolfSSL_CTX_new(wolfTLS_client_method());
	wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_NONE, NULL);
	ssl = wolfSSL_new(context);
	wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, HOST, strlen(HOST));
	wolfSSL_UseALPN(ssl, protocols, strlen(protocols), WOLFSSL_ALPN_CONTINUE_ON_MISMATCH);
	wolfSSL_set_fd(ssl, fd);
	if (wolfSSL_connect(ssl) != WOLFSSL_SUCCESS)
		fail("wolfSSL_connect", wolfSSL_get_error(ssl, 0));
	return ssl;
}

size_t library_write(char way, const uint8_t *data, size_t length)
{
	struct iovec parts[] = {
		{ (void *)data, length / 2 },
		{ (void *)(data + length / 2), length - length / 2 },
	};
	int moved;

	if (way == 'w')
		moved = wolfSSL_write(ssl, data, length);
	else if (way == 's')
		moved = wolfSSL_send(ssl, data, length, 0);
	else
		moved = wolfSSL_writev(ssl, parts, 2);
	if (moved <= 0)
		fail("write", wolfSSL_get_error(ssl, moved));
	return moved;
}

size_t library_read(char way, uint8_t *data, size_t size)
{
	int moved;

	if (way == 'p')
		wolfSSL_peek(ssl, data, size);
	moved = way == 'r' ? wolfSSL_read(ssl, data, size) : wolfSSL_recv(ssl, data, size, 0);
	if (moved <= 0)
		fail("read", wolfSSL_get_error(ssl, moved));
	return moved;
}

void library_close(void)
{
	wolfSSL_shutdown(ssl);
	wolfSSL_free(ssl);
}
