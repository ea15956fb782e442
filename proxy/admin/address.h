/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The admin address: the path of a UNIX socket, or a loopback address with a port.
 *
 * While one relay replaces another, one of them listens at the address at every moment. A UNIX
 * socket is made under another name and renamed over the path; what has connected to the old socket
 * stays with the old relay. A TCP port is shared (SO_REUSEPORT, same user) until the old relay
 * closes its socket, which it does when it sees the registration of the new one. A socket that a
 * killed relay has left is replaced.
 */
#ifndef TPROXY_ADMIN_ADDRESS_H
#define TPROXY_ADMIN_ADDRESS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "parse.h"

struct admin_address {
	/* An absolute path, or empty: tcp is valid. */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	union sockaddr_any tcp;
};

/*
 * Parses "/PATH", or ADDR:PORT with a loopback address and a port other than 0. Returns NULL, or
 * why the text is refused: a static string that follows "'TEXT' is ".
 */
const char *admin_address_parse(const char *text, struct admin_address *ret_address);

static inline bool admin_address_is_set(const struct admin_address *address)
{
	return *address->path || address->tcp.sa.sa_family != AF_UNSPEC;
}

/* A listening socket. */
struct admin_socket {
	int fd;
	struct admin_address address;
	dev_t dev; /* of the socket's file, which another relay may have replaced; like ino */
	ino_t ino;
};

#define ADMIN_SOCKET_NULL                                                                          \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/*
 * Checks that admin_socket_open() would not refuse the path, except that its directory may be
 * missing. Changes nothing. Returns 0 or -errno, logged.
 */
int admin_path_check(const char *path);

/* Binds and listens. A TCP socket listens already when the old relay still does. Returns 0 or
 * -errno, logged. */
int admin_socket_open(const struct admin_address *address, struct admin_socket *ret_socket);
/* True if the socket has a path at which there is nothing any more. */
bool admin_socket_is_gone(const struct admin_socket *socket);
/* Closes the socket, and removes its file unless another relay has replaced it. */
void admin_socket_close(struct admin_socket *socket);

#endif
