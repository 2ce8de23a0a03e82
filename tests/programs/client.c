/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A client of tlsmove's server by another library: moves bytes, and tells what it moved as tlsmove does.
 *
 * usage: PROGRAM ADDRESS PORT SETUP STEP...
 *   SETUP     of the session, a word that the library's file explains
 *   STEP      a letter, which is a way to write or to read, and the number of bytes; or g: prints "gate" and
 *             waits for a line on standard input */
#include <stdlib.h>

#include "client.h"
#include "tally.h"

#define SEED 7ULL
#define PIECE 50000 /* most bytes of one call */

unsigned long library_waits;

void fail(const char *what, long code)
{
	fprintf(stderr, "%s: %ld\n", what, code);
	_exit(1);
}

static void client_write(char way, size_t length, struct sum *sum)
{
	static uint8_t data[PIECE];

	while (length) {
		size_t moved = length < PIECE ? length : PIECE;

		for (size_t i = 0; i < moved; i++) {
			uint64_t at = sum->bytes + i;

			data[i] = (SEED << 48 | at / 8) >> (56 - at % 8 * 8);
		}
		moved = library_write(way, data, moved);
		sum_add(sum, data, moved);
		length -= moved;
	}
}

static void client_read(char way, size_t length, struct sum *sum)
{
	static uint8_t data[PIECE];

	while (length) {
		size_t moved = library_read(way, data, length < PIECE ? length : PIECE);

		sum_add(sum, data, moved);
		length -= moved;
	}
}

static void wait_at_gate(void)
{
	printf("gate\n");
	fflush(stdout);
	if (getchar() == EOF)
		fail("gate", 0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct sum wrote = {}, read = {};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	void *session;

	if (argc < 5)
		fail("arguments", argc);
	inet_pton(AF_INET, argv[1], &address.sin_addr);
	address.sin_port = htons(atoi(argv[2]));
	if (connect(fd, (void *)&address, sizeof(address)))
		die("connect");
	sum_reset(&wrote);
	sum_reset(&read);
	session = library_open(fd, argv[3]);
	for (char **step = argv + 4; *step; step++) {
		size_t length = strtoull(*step + 1, NULL, 10);

		if (**step == 'g')
			wait_at_gate();
		else if (strchr(library_reads, **step))
			client_read(**step, length, &read);
		else
			client_write(**step, length, &wrote);
	}
	printf("session layer=only pid=%d ssl=%p seed=%llu waits=%lu", getpid(), session, SEED,
	       library_waits);
	address_print("local", fd, getsockname);
	address_print("remote", fd, getpeername);
	sum_print("wrote", &wrote);
	sum_print("read", &read);
	printf("\n");
	fflush(stdout);
	library_close();
	return 0;
}
