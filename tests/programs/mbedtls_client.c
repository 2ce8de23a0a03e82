/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SETUP: again: after a connection of its own, over which 100 bytes are written and 1 is read, by the same
 * context; else any. Ways: w, r: mbedtls_ssl_write, mbedtls_ssl_read. */
#include <netinet/in.h>
#include <sys/socket.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>

#include "client.h"

const char library_reads[] = "r";

static mbedtls_ssl_context ssl;
static mbedtls_ssl_config config;
static mbedtls_net_context net;

static void handshake(int fd)
{
	int result;

	net.fd = fd;
	mbedtls_ssl_set_hostname(&ssl, HOST);
	mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
	result = mbedtls_ssl_handshake(&ssl);
	if (result)
		fail("mbedtls_ssl_handshake", result);
}

/* Another connection to where `fd` is connected. */
static void use_before(int fd)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	uint8_t data[100] = {};
	int other = socket(AF_INET, SOCK_STREAM, 0);

	if (getpeername(fd, (void *)&address, &length) || connect(other, (void *)&address, length))
		fail("connect", other);
	handshake(other);
	library_write('w', data, sizeof(data));
	library_read('r', data, 1);
	mbedtls_ssl_close_notify(&ssl);
	mbedtls_net_free(&net);
	mbedtls_ssl_session_reset(&ssl);
}

void *library_open(int fd, const char *setup)
{
	static mbedtls_entropy_context entropy;
	static mbedtls_ctr_drbg_context random;

	mbedtls_ssl_init(&ssl);
	mbedtls_ssl_config_init(&config);
	mbedtls_entropy_init(&entropy);
	mbedtls_ctr_drbg_init(&random);
	mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0);
	mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
				    MBEDTLS_SSL_PRESET_DEFAULT);
	mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_NONE);
	mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
	mbedtls_ssl_setup(&ssl, &config);
	if (!strcmp(setup, "again"))
		use_before(fd);
	handshake(fd);
	return &ssl;
}

size_t library_write(char way, const uint8_t *data, size_t length)
{
	int moved = mbedtls_ssl_write(&ssl, data, length);

	if (moved <= 0)
		fail("mbedtls_ssl_write", moved);
	return moved;
}

size_t library_read(char way, uint8_t *data, size_t size)
{
	int moved = mbedtls_ssl_read(&ssl, data, size);

	if (moved <= 0)
		fail("mbedtls_ssl_read", moved);
	return moved;
}

void library_close(void)
{
	mbedtls_ssl_close_notify(&ssl);
	mbedtls_ssl_free(&ssl);
}
