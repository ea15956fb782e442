/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shapes of an exchange: how the bytes of a request and of its response are cut into writes, and
 * what the sockets are told before. The workload shape measures one of them.
 */
#ifndef TPROXY_BENCH_SHAPE_H
#define TPROXY_BENCH_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pattern.h"

#define SHAPE_WRITES 2

/* @count writes of @size bytes each. */
struct writes {
	unsigned int size;
	unsigned int count;
};

/* SO_SNDBUF and SO_RCVBUF as setsockopt() takes them, in bytes; 0 = the kernel's own. */
struct socket_buffers {
	int send;
	int receive;
	bool late; /* set after connect(), not before it; on the server's side always late */
};

struct shape {
	const char *name;
	struct writes request[SHAPE_WRITES];
	struct writes response[SHAPE_WRITES];
	unsigned int ahead;    /* requests sent before the first response is read; 0 = 1 */
	unsigned int pause_us; /* between two writes of one side */
	bool nodelay;	       /* TCP_NODELAY at both ends; without it Nagle's algorithm */
	bool fresh;	       /* a connection for each exchange, whose connect() is part of it */
	struct socket_buffers client;
	struct socket_buffers server;
};

/* NULL if there is none of this name. */
const struct shape *shape_find(const char *name);

/* Prints the name of each shape, one a line. */
void shape_list(void);

/* One end of a connection that carries exchanges. What it sends and receives is the pattern. */
struct shape_end {
	int fd; /* blocking */
	const struct shape *shape;
	bool introduced; /* the server knows the shape; on the server's side always true */
	uint64_t sent;
	uint64_t received;
	size_t held; /* bytes in front of the buffer that were read from fd already */
	unsigned char buffer[PATTERN_CHUNK];
};

/* Applies what @buffers and @shape ask of a socket, after connect() if @late. */
void shape_prepare(int fd, const struct shape *shape, const struct socket_buffers *buffers,
		   bool late);

/* The client's side of one exchange. Returns 0 or -errno; -EBADMSG for a wrong byte, -ENODATA for
 * an end of file. */
int shape_exchange(struct shape_end *end);

/*
 * Serves a connection in a thread of its own until the client closes it. @bytes were read from @fd
 * after OP_SHAPE. Takes @fd, which may be non-blocking. Returns 0 or -errno; @fd is closed then
 * too.
 */
int shape_serve(int fd, const unsigned char *bytes, size_t size);

#endif
