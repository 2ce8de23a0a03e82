/* post PORT PATH < BODY: one HTTP request over TLS to this machine, header and body sent by a single call of
 * SSL_write(), however large. Prints "PATH local-address local-port remote-address remote-port". */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define BODY_MAX (16 << 20)
#define HEADER_MAX 256

static char body[BODY_MAX], request[HEADER_MAX + BODY_MAX];

static int connected(unsigned short port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		err(1, "cannot connect to port %u", port);
	return fd;
}

int main(int argc, char **argv)
{
	struct sockaddr_in from;
	socklen_t from_size = sizeof(from);
	size_t body_size, header_size;

	if (argc != 3)
		errx(2, "usage: post PORT PATH < BODY");
	body_size = fread(body, 1, sizeof(body), stdin);
	header_size = snprintf(request, HEADER_MAX,
			       "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", argv[2],
			       body_size);
	memcpy(request + header_size, body, body_size);

	SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
	int fd = connected(atoi(argv[1]));
	if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
		errx(1, "no TLS with port %s", argv[1]);
	if (SSL_write(ssl, request, header_size + body_size) != (int)(header_size + body_size))
		errx(1, "not all was written");
	SSL_shutdown(ssl);
	if (getsockname(fd, (struct sockaddr *)&from, &from_size))
		err(1, "getsockname");
	printf("%s 127.0.0.1 %u 127.0.0.1 %s\n", argv[2], ntohs(from.sin_port), argv[1]);
	SSL_free(ssl);
	return 0;
}
