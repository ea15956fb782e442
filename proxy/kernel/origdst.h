/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The original destination of a redirected connection. Functions do not log. Any thread. */
#ifndef TPROXY_ORIGDST_H
#define TPROXY_ORIGDST_H

#include "parse.h"

/*
 * Reads what the kernel half has recorded for an accepted socket. family is that of its listener.
 * Returns ORIGDST_FOUND with *ret_dst (port in network byte order) and *ret_conn set. Returns
 * ORIGDST_NOT_REDIRECTED if no destination is recorded, or the relay itself is: the connection must
 * not be served.
 */
struct tproxy_conn;
enum {
	ORIGDST_FOUND = 0,
	ORIGDST_NOT_REDIRECTED = 1,
};
int origdst_get(int fd, sa_family_t family, union sockaddr_any *ret_dst,
		struct tproxy_conn *ret_conn);

/* Reads the kernel half's record of an accepted socket. Returns 0 or -errno. */
int origdst_get_conn(int fd, struct tproxy_conn *ret_conn);

#endif
