// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See client_sock.h. The client's own socket is not changed. */
#include "client_sock.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "upstream/sock.h"

/*
 * The largest segment to and from a client. A segment of 64 KiB, as loopback has, does not fit into
 * the window of a client that made its SO_RCVBUF small after connect(): each segment would wait for
 * a timer of 200 ms. 1460 bytes would slow uploads down by half; 4096 do not.
 */
#define SEGMENT_MAX 4096

/*
 * TCP_NODELAY: the relay writes data as soon as it has it. Reno: there is no congestion between two
 * sockets of one host, and the pacing of a host's default such as BBR only costs CPU
 * (tests/bench/README.md has numbers).
 */
void client_sock_prepare(int fd)
{
	static const char congestion[] = "reno"; /* always built in */
	const int on = 1, segment = SEGMENT_MAX;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, sizeof(congestion) - 1);
	sock_prepare(fd);
}
