/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where the client wanted to go. */
#ifndef TPROXY_ORIGDST_H
#define TPROXY_ORIGDST_H

#include "parse.h"

/*
 * Asks an accepted socket, whose listener is of that family, for what our programs have recorded.
 * 0: *ret_dst is set. ORIGDST_NOT_REDIRECTED: no destination is recorded for this connection, or
 * one that is where it came to, so it must not be served. *ret_conn: all that is recorded,
 * by the same call.
 */
struct tproxy_conn;
enum {
	ORIGDST_FOUND = 0,
	ORIGDST_NOT_REDIRECTED = 1,
};
int origdst_get(int fd, sa_family_t family, union sockaddr_any *ret_dst,
		struct tproxy_conn *ret_conn);

/* All that the kernel half has recorded of the connection. 0 or -errno. */
int origdst_get_conn(int fd, struct tproxy_conn *ret_conn);

#endif
