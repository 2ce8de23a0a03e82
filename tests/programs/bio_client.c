/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* OpenSSL through a BIO that encrypts, as `BIO_new_ssl_connect` makes one.
 * SETUP: socket. Ways to write: w, s: BIO_write, BIO_write_ex. To read: r, q: BIO_read, BIO_read_ex. */
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "client.h"

const char library_reads[] = "rq";

static BIO *chain;

void *library_open(int fd, const char *setup)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;

	chain = BIO_push(BIO_new_ssl(ctx, 1), BIO_new_socket(fd, BIO_CLOSE));
	if (BIO_get_ssl(chain, &ssl) <= 0)
		fail("BIO_get_ssl", 0);
	SSL_set_tlsext_host_name(ssl, HOST);
	if (BIO_do_handshake(chain) <= 0)
		fail("BIO_do_handshake", 0);
	return ssl;
}

size_t library_write(char way, const uint8_t *data, size_t length)
{
	size_t written = 0;
	int moved = way == 'w' ? BIO_write(chain, data, length) : BIO_write_ex(chain, data, length, &written);

	if (moved <= 0)
		fail("write", moved);
	return way == 'w' ? (size_t)moved : written;
}

size_t library_read(char way, uint8_t *data, size_t size)
{
	size_t got = 0;
	int moved = way == 'r' ? BIO_read(chain, data, size) : BIO_read_ex(chain, data, size, &got);

	if (moved <= 0)
		fail("read", moved);
	return way == 'r' ? (size_t)moved : got;
}

void library_close(void)
{
	BIO_ssl_shutdown(chain);
	BIO_free_all(chain);
}
