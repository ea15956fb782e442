/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The shapes and both ends of an exchange.
 *
 * Delayed ACKs, Nagle's algorithm and small windows make an exchange wait for a timer if writes,
 * buffers and segments combine badly. A relay has two connections with segments of their own
 * (65,483 bytes on the loopback device), so it can stall where the direct connection does not. Each
 * shape is the pattern of a common program: a header and a body in two writes, an upload by a
 * client with a small SO_SNDBUF, a download into a small SO_RCVBUF, pipelined requests, a trickle.
 *
 * The first two bytes of a connection, OP_SHAPE and the index of the shape, are sent in front of
 * the first write, in the same sendmsg(). A send of their own would make them the client's first
 * write.
 */
#include "shape.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KIB	  1024
#define NS_PER_US 1000L

/* clang-format off */
#define SMALL { { 64, 1 } }
#define LARGE { { 100000, 1 } }

static const struct shape shapes[] = {
	{ .name = "write-20+80", { { 20, 1 }, { 80, 1 } }, SMALL },
	{ .name = "write-20+80-nodelay", { { 20, 1 }, { 80, 1 } }, SMALL, .nodelay = true },
	{ .name = "post-1500+100", { { 1500, 1 }, { 100, 1 } }, SMALL },
	{ .name = "post-3000+100", { { 3000, 1 }, { 100, 1 } }, SMALL },
	{ .name = "post-3000+100-nodelay", { { 3000, 1 }, { 100, 1 } }, SMALL, .nodelay = true },
	{ .name = "post-3000+100-fresh", { { 3000, 1 }, { 100, 1 } }, SMALL, .fresh = true },
	{ .name = "post-20000+100", { { 20000, 1 }, { 100, 1 } }, SMALL },
	{ .name = "answer-1500+100", SMALL, { { 1500, 1 }, { 100, 1 } } },
	{ .name = "answer-3000+100", SMALL, { { 3000, 1 }, { 100, 1 } } },
	{ .name = "answer-20000+100", SMALL, { { 20000, 1 }, { 100, 1 } } },
	{ .name = "both-3000+100", { { 3000, 1 }, { 100, 1 } }, { { 3000, 1 }, { 100, 1 } } },
	{ .name = "pipelined-16x64", SMALL, SMALL, .ahead = 16 },
	{ .name = "pipelined-16x64-nodelay", SMALL, SMALL, .ahead = 16, .nodelay = true },
	{ .name = "trickle-up", { { 10, 10 } }, SMALL, .pause_us = 1000 },
	{ .name = "trickle-up-nodelay", { { 10, 10 } }, SMALL, .pause_us = 1000, .nodelay = true },
	{ .name = "trickle-down", SMALL, { { 10, 10 } }, .pause_us = 1000 },
	{ .name = "trickle-down-nodelay", SMALL, { { 10, 10 } }, .pause_us = 1000, .nodelay = true },
	{ .name = "up-100k", LARGE, SMALL },
	{ .name = "up-1m", { { 1000000, 1 } }, SMALL },
	{ .name = "up-sndbuf-4k", LARGE, SMALL, .client = { .send = 4 * KIB } },
	{ .name = "up-sndbuf-8k", LARGE, SMALL, .client = { .send = 8 * KIB } },
	{ .name = "up-sndbuf-8k-1400", { { 1400, 72 } }, SMALL, .client = { .send = 8 * KIB } },
	{ .name = "up-sndbuf-32k", LARGE, SMALL, .client = { .send = 32 * KIB } },
	{ .name = "up-sndbuf-4k-late", LARGE, SMALL, .client = { .send = 4 * KIB, .late = true } },
	{ .name = "up-server-rcvbuf-4k", LARGE, SMALL, .server = { .receive = 4 * KIB, .late = true } },
	{ .name = "up-listener-4k", LARGE, SMALL }, /* for the listener with small buffers */
	{ .name = "down-100k", SMALL, LARGE },
	{ .name = "down-1m", SMALL, { { 1000000, 1 } } },
	{ .name = "down-rcvbuf-4k", SMALL, LARGE, .client = { .receive = 4 * KIB } },
	{ .name = "down-rcvbuf-8k", SMALL, LARGE, .client = { .receive = 8 * KIB } },
	{ .name = "down-rcvbuf-16k", SMALL, LARGE, .client = { .receive = 16 * KIB } },
	{ .name = "down-rcvbuf-4k-late", SMALL, LARGE, .client = { .receive = 4 * KIB, .late = true } },
	{ .name = "down-rcvbuf-8k-late", SMALL, LARGE, .client = { .receive = 8 * KIB, .late = true } },
	{ .name = "down-rcvbuf-16k-late", SMALL, LARGE, .client = { .receive = 16 * KIB, .late = true } },
	{ .name = "down-server-sndbuf-4k", SMALL, LARGE, .server = { .send = 4 * KIB, .late = true } },
	{ .name = "down-listener-4k", SMALL, LARGE },
};
/* clang-format on */

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

const struct shape *shape_find(const char *name)
{
	for (size_t i = 0; i < SHAPES; i++) {
		if (strcmp(shapes[i].name, name) == 0)
			return &shapes[i];
	}
	return NULL;
}

void shape_list(void)
{
	for (size_t i = 0; i < SHAPES; i++)
		puts(shapes[i].name);
}

void shape_prepare(int fd, const struct shape *shape, const struct socket_buffers *buffers,
		   bool late)
{
	if (late && shape->nodelay)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (buffers->late != late)
		return;
	if (buffers->send)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffers->send, sizeof(buffers->send));
	if (buffers->receive)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffers->receive, sizeof(buffers->receive));
}

static size_t size_of(const struct writes writes[SHAPE_WRITES])
{
	size_t size = 0;

	for (int i = 0; i < SHAPE_WRITES; i++)
		size += (size_t)writes[i].size * writes[i].count;
	return size;
}

/* Sends at most one chunk, with the two introducing bytes in front of the first one. */
static ssize_t end_send_once(struct shape_end *e, size_t size)
{
	unsigned char introduction[] = { OP_SHAPE, (unsigned char)(e->shape - shapes) };
	struct iovec parts[] = { { introduction, sizeof(introduction) },
				 { (void *)pattern_at(e->sent), size } };
	const struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t n;

	if (e->introduced)
		return send(e->fd, parts[1].iov_base, size, MSG_NOSIGNAL);

	n = sendmsg(e->fd, &message, MSG_NOSIGNAL);
	if (n < (ssize_t)sizeof(introduction)) {
		errno = n < 0 ? errno : EIO;
		return -1;
	}
	e->introduced = true;
	return n - (ssize_t)sizeof(introduction);
}

/* One write of a program; a write larger than PATTERN_CHUNK is split. */
static int end_write(struct shape_end *e, size_t size)
{
	while (size > 0) {
		ssize_t n = end_send_once(e, size < PATTERN_CHUNK ? size : PATTERN_CHUNK);

		if (n < 0)
			return -errno;
		e->sent += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int end_send(struct shape_end *e, const struct writes writes[SHAPE_WRITES])
{
	const struct timespec pause = { .tv_nsec = (long)e->shape->pause_us * NS_PER_US };

	for (int i = 0; i < SHAPE_WRITES; i++) {
		for (unsigned int j = 0; j < writes[i].count; j++) {
			int r;

			if (pause.tv_nsec > 0 && (i > 0 || j > 0))
				nanosleep(&pause, NULL);
			r = end_write(e, writes[i].size);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Reads as programs do: the bytes available, up to the number missing. Returns -ENODATA at EOF. */
static int end_receive(struct shape_end *e, size_t size)
{
	while (size > 0) {
		size_t most = size < sizeof(e->buffer) ? size : sizeof(e->buffer);
		ssize_t n = (ssize_t)(e->held < most ? e->held : most);

		if (e->held == 0)
			n = recv(e->fd, e->buffer, most, 0);
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		if (!pattern_matches(e->buffer, (size_t)n, e->received))
			return -EBADMSG;
		if (e->held > 0) {
			e->held -= (size_t)n;
			memmove(e->buffer, e->buffer + n, e->held);
		}
		e->received += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int shape_exchange(struct shape_end *e)
{
	const struct shape *shape = e->shape;
	unsigned int ahead = shape->ahead ? shape->ahead : 1;
	int r = 0;

	for (unsigned int i = 0; i < ahead && r == 0; i++)
		r = end_send(e, shape->request);
	if (r == 0)
		r = end_receive(e, ahead * size_of(shape->response));
	return r;
}

/* Reads the index that follows OP_SHAPE, which may already be in the buffer. */
static int end_meet(struct shape_end *e)
{
	if (e->held == 0) {
		ssize_t n = recv(e->fd, e->buffer, 1, 0);

		if (n <= 0)
			return -ENODATA;
		e->held = 1;
	}
	if (e->buffer[0] >= SHAPES)
		return -EINVAL;
	e->shape = &shapes[e->buffer[0]];
	e->held--;
	memmove(e->buffer, e->buffer + 1, e->held);
	return 0;
}

static void *serve(void *arg)
{
	const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	struct shape_end *e = arg;
	bool orderly = false; /* the client's FIN arrived between two exchanges */
	int r = end_meet(e);

	if (r == 0) {
		/* Off: an accepted socket inherits the listener's TCP_NODELAY. */
		setsockopt(e->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 0 }, sizeof(int));
		shape_prepare(e->fd, e->shape, &e->shape->server, true);
	}
	while (r == 0) {
		uint64_t before = e->received;

		r = end_receive(e, size_of(e->shape->request));
		orderly = r == -ENODATA && e->received == before;
		if (r == 0)
			r = end_send(e, e->shape->response);
	}
	if (!orderly)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(e->fd);
	free(e);
	return NULL;
}

int shape_serve(int fd, const unsigned char *bytes, size_t size)
{
	int flags = fcntl(fd, F_GETFL);
	struct shape_end *e = calloc(1, sizeof(*e));
	pthread_t thread;
	int r = ENOMEM;

	if (e && flags >= 0 && size <= sizeof(e->buffer) &&
	    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0) {
		e->fd = fd;
		e->introduced = true;
		e->held = size;
		memcpy(e->buffer, bytes, size);
		r = pthread_create(&thread, NULL, serve, e);
	}
	if (r) {
		close(fd);
		free(e);
		return -r;
	}
	pthread_detach(thread);
	return 0;
}
