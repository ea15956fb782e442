/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which of tproxy's programs see a socket, and with which mark. */
#ifndef TPROXY_WHOAMI_H
#define TPROXY_WHOAMI_H

struct tproxy_whoami;

/*
 * Queries tproxy's getsockopt program for the socket @fd. It answers if it is attached to the
 * cgroup in which the socket was created, and if the socket is marked. Returns 0, -EPROTO for an
 * answer of another size, or the -errno of getsockopt(2).
 */
int whoami_query(int fd, struct tproxy_whoami *ret_whoami);

#endif
