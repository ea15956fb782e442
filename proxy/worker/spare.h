/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A spare: the upstream socket for the next client, made before the client is taken. A client is
 * therefore taken only if there is a descriptor for its server too.
 *
 * The socket must not be redirected. It is marked UPSTREAM, unless this process is in the relay
 * cgroup. Worker's thread.
 */
#ifndef TPROXY_SPARE_H
#define TPROXY_SPARE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct session_env;

struct spare {
	int fd;			     /* owned; -1: none */
	bool exempt;		     /* no mark is needed: this process is in the relay cgroup */
	uint32_t since_exempt_check; /* sockets since exempt was checked */
};

#define SPARE_NULL                                                                                 \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/*
 * Makes the socket, if there is none. query_fd: a listener of this relay, through which the
 * exemption is checked. Returns 0 or -errno.
 */
int spare_prepare(struct spare *spare, struct session_env *env, sa_family_t family, int query_fd);
/* Closes the socket, and resets *spare. */
void spare_close(struct spare *spare);

#endif
