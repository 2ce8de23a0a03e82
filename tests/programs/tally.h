/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What tlsmove counts, and how it tells it. */
#ifndef TLSMOVE_TALLY_H
#define TLSMOVE_TALLY_H

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>

/* Bytes that went one way. */
struct sum {
	uint64_t bytes;
	EVP_MD_CTX *sha256;
};

static void die(const char *what)
{
	fprintf(stderr, "tlsmove: %s: %s\n", what, strerror(errno));
	ERR_print_errors_fp(stderr);
	_exit(1);
}

static void *checked(void *pointer, const char *what)
{
	if (!pointer)
		die(what);
	return pointer;
}

static void sum_reset(struct sum *sum)
{
	sum->bytes = 0;
	if (!sum->sha256)
		sum->sha256 = checked(EVP_MD_CTX_new(), "EVP_MD_CTX_new");
	EVP_DigestInit_ex(sum->sha256, EVP_sha256(), NULL);
}

static void sum_add(struct sum *sum, const void *data, size_t length)
{
	sum->bytes += length;
	EVP_DigestUpdate(sum->sha256, data, length);
}

static void sum_print(const char *name, struct sum *sum)
{
	unsigned char digest[32];

	EVP_DigestFinal_ex(sum->sha256, digest, NULL);
	printf(" %s=%llu ", name, (unsigned long long)sum->bytes);
	printf("%s_sha256=", name);
	for (size_t i = 0; i < sizeof(digest); i++)
		printf("%02x", digest[i]);
	EVP_MD_CTX_free(sum->sha256);
}

static void address_print(const char *name, int fd, int (*ask)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_storage address = {};
	socklen_t length = sizeof(address);
	struct sockaddr_in *v4 = (void *)&address;
	struct sockaddr_in6 *v6 = (void *)&address;
	char text[INET6_ADDRSTRLEN];

	if (ask(fd, (struct sockaddr *)&address, &length))
		die("address of a socket");
	if (address.ss_family == AF_INET)
		printf(" %s=%s:%u", name, inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text)),
		       ntohs(v4->sin_port));
	else
		printf(" %s=[%s]:%u", name, inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text)),
		       ntohs(v6->sin6_port));
}

#endif
