/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The map operations of workers. They mark their upstream sockets (map_marks), so that connect4 and
 * connect6 do not redirect these sockets, and add destinations that failed to the negative cache
 * (map_failed). registration.c does the rest, and hands out struct marks. Functions do not log. Any
 * thread.
 */
#ifndef TPROXY_MARKS_H
#define TPROXY_MARKS_H

#include <stdbool.h>
#include <stdint.h>

#include "parse.h"
#include "tproxy_abi.h"

/* Owns its descriptors. */
struct marks {
	int marks_fd;
	int failed_fd;
	uint64_t netns_cookie;
	uint64_t error_memory_ms; /* how long an entry of map_failed lasts; 0: none is added */
};

#define MARKS_NULL                                                                                 \
	{                                                                                          \
		.marks_fd = -1, .failed_fd = -1                                                    \
	}

void marks_close(struct marks *marks);

/* Sets the mark of a socket: TPROXY_MARK_* in flags. Returns 0 or -errno. */
int marks_set(int marks_fd, int fd, uint32_t flags);
/* Marks a socket as UPSTREAM, before connect(). Returns 0 or -errno. */
int marks_set_upstream(const struct marks *marks, int fd);
/*
 * As marks_set_upstream(), and records the connection that the socket will serve: its packets
 * belong to that connection's captures. Returns 0 or -errno.
 */
int marks_set_upstream_of(const struct marks *marks, int fd, const struct tproxy_conn *conn);
/*
 * Marks the socket that is to join the pending client of conn, before connect(). Returns 0 or
 * -errno.
 */
int marks_set_joining(const struct marks *marks, int fd, const struct tproxy_conn *conn);
/*
 * True if this process is in the relay cgroup now: connect4 and connect6 then do not redirect its
 * sockets, marked or not. Queried through one of the relay's listeners. Returns false also if the
 * query fails.
 */
bool marks_is_exempt(int listen_fd);

/*
 * Adds dst to the negative cache: for error_memory_ms, connect() to it fails with error, a positive
 * errno, if its rule names the same upstream. upstream is that of the connection that failed,
 * tproxy_conn.upstream. Errors that do not come from the destination are ignored. EACCES is one of
 * them: it comes from a route of this host.
 */
void marks_note_error(const struct marks *marks, uint32_t upstream, const union sockaddr_any *dst,
		      int error);
/* As marks_note_error(), for the error that an upstream has answered: EACCES counts. */
void marks_note_refused(const struct marks *marks, uint32_t upstream, const union sockaddr_any *dst,
			int error);

/* Stores an address as the maps have it: as IPv6, IPv4 in its mapped form ::ffff:a.b.c.d. */
void marks_address(__u8 ip[16], const union sockaddr_any *addr);

#endif
