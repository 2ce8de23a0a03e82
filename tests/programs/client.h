/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What client.c wants of a library's file. Functions end the program if they fail. */
#ifndef TLSMOVE_CLIENT_H
#define TLSMOVE_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HOST "server.example" /* that is asked for */
#define PROTOCOL "tally/1" /* and offered */

extern const char library_reads[]; /* the letters of ways to read; the others write */

/* Connects. Gives where the session is in memory. */
void *library_open(int fd, const char *setup);
/* One call. Gives the number of bytes, more than 0. */
size_t library_write(char way, const uint8_t *data, size_t length);
size_t library_read(char way, uint8_t *data, size_t size);
void library_close(void);

/* Of client.c. */
extern unsigned long library_waits; /* how often a write had to wait for room */
void fail(const char *what, long code) __attribute__((noreturn));

#endif
