/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SETUP: plain; layer: with a layer of the program on top of TLS. Before and after the session, writes to a
 * file and reads it by the same functions.
 * Ways to write: w, s, v: PR_Write, PR_Send, PR_Writev. To read: r, p: PR_Read, PR_Recv after it has only
 * looked. */
#include <stdlib.h>
#include <unistd.h>

#include <nspr.h>
#include <nss.h>
#include <private/pprio.h>
#include <ssl.h>

#include "client.h"

#define FILE_TEXT "a text in a file, which no session has\n"

const char library_reads[] = "rp";

static PRFileDesc *tls;

static SECStatus any_certificate(void *argument, PRFileDesc *descriptor, PRBool check, PRBool server)
{
	return SECSuccess;
}

static void use_file(void)
{
	char name[] = "/tmp/tlsmove-XXXXXX", text[sizeof(FILE_TEXT)] = "";
	PRFileDesc *file;

	close(mkstemp(name));
	file = PR_Open(name, PR_RDWR, 0);
	PR_Write(file, FILE_TEXT, strlen(FILE_TEXT));
	PR_Seek64(file, 0, PR_SEEK_SET);
	PR_Read(file, text, sizeof(text));
	if (strcmp(text, FILE_TEXT))
		fail("file", 0);
	PR_Close(file);
	unlink(name);
}

void *library_open(int fd, const char *setup)
{
	use_file();
	NSS_NoDB_Init(NULL);
	NSS_SetDomesticPolicy();
	tls = SSL_ImportFD(NULL, PR_ImportTCPSocket(fd));
	SSL_AuthCertificateHook(tls, any_certificate, NULL);
	if (!strcmp(setup, "layer")) {
		PRDescIdentity identity = PR_GetUniqueIdentity("layer");

		PR_PushIOLayer(tls, PR_TOP_IO_LAYER,
			       PR_CreateIOLayerStub(identity, PR_GetDefaultIOMethods()));
	}
	SSL_SetURL(tls, HOST);
	SSL_ResetHandshake(tls, PR_FALSE);
	return tls;
}

size_t library_write(char way, const uint8_t *data, size_t length)
{
	PRIOVec parts[] = {
		{ (char *)data, length / 2 },
		{ (char *)data + length / 2, length - length / 2 },
	};
	PRInt32 moved;

	if (way == 'w')
		moved = PR_Write(tls, data, length);
	else if (way == 's')
		moved = PR_Send(tls, data, length, 0, PR_INTERVAL_NO_TIMEOUT);
	else
		moved = PR_Writev(tls, parts, 2, PR_INTERVAL_NO_TIMEOUT);
	if (moved <= 0)
		fail("write", PR_GetError());
	return moved;
}

size_t library_read(char way, uint8_t *data, size_t size)
{
	PRInt32 moved;

	if (way == 'p')
		PR_Recv(tls, data, size, PR_MSG_PEEK, PR_INTERVAL_NO_TIMEOUT);
	moved = way == 'r' ? PR_Read(tls, data, size) : PR_Recv(tls, data, size, 0, PR_INTERVAL_NO_TIMEOUT);
	if (moved <= 0)
		fail("read", PR_GetError());
	return moved;
}

void library_close(void)
{
	PR_Close(tls);
	use_file();
}
