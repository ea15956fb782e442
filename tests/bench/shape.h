/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The shape of an exchange: how a request and its response are split into writes, and which options
 * the sockets get first. The workload shape measures one shape.
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

/* SO_SNDBUF and SO_RCVBUF as setsockopt() takes them, in bytes; 0 = the kernel's default. */
struct socket_buffers {
	int send;
	int receive;
	bool late; /* set after connect() instead of before it; always on the server's side */
};

struct shape {
	const char *name;
	struct writes request[SHAPE_WRITES];
	struct writes response[SHAPE_WRITES];
	unsigned int ahead;    /* requests sent before the first response is read; 0 = 1 */
	unsigned int pause_us; /* pause between two writes of one side, in microseconds */
	bool nodelay;	       /* TCP_NODELAY at both ends; false = Nagle's algorithm */
	bool fresh; /* a new connection for each exchange; its connect() is measured too */
	struct socket_buffers client;
	struct socket_buffers server;
};

/* Returns the shape of this name, or NULL. The memory is static. */
const struct shape *shape_find(const char *name);

/* Prints the names of all shapes, one per line. */
void shape_list(void);

/* One end of a connection that carries exchanges. It sends and expects the bytes of the pattern. */
struct shape_end {
	int fd; /* blocking */
	const struct shape *shape;
	bool introduced; /* the server knows the shape; always true on the server's side */
	uint64_t sent;
	uint64_t received;
	size_t held; /* bytes at the start of buffer that were already read from fd */
	unsigned char buffer[PATTERN_CHUNK];
};

/* Sets the options of @buffers and @shape on a socket, those for after connect() if @late. */
void shape_prepare(int fd, const struct shape *shape, const struct socket_buffers *buffers,
		   bool late);

/*
 * Runs the client's side of one exchange. Returns 0 or -errno: -EBADMSG for a wrong byte, -ENODATA
 * for EOF.
 */
int shape_exchange(struct shape_end *end);

/*
 * Serves a connection in a thread of its own until the client closes it. @bytes were read from @fd
 * after OP_SHAPE. Takes over @fd, which may be non-blocking, and closes it on failure too. Returns
 * 0 or -errno.
 */
int shape_serve(int fd, const unsigned char *bytes, size_t size);

#endif
