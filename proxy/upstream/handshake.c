// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See handshake.h. handshake_run() first sends what the last step has left, then peeks, has the
 * protocol make a step, takes the step's bytes from the socket, and begins again. Nothing is read
 * while something is to be sent: a step's output is small, and this bounds the memory.
 *
 * An upstream that sends HANDSHAKE_IN_MAX bytes and is not done is refused, so a handshake ends.
 */
#include "handshake.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Bytes that are peeked at in one step. */
#define PIECE 1024

struct handshake {
	const struct handshake_ops *ops;
	union sockaddr_any upstream, dst;
	bool started, done;
	size_t received; /* bytes of the upstream, in all steps */
	size_t out_off, out_len;
	uint8_t out[HANDSHAKE_OUT_MAX];
	alignas(max_align_t) uint8_t state[]; /* the protocol's */
};

struct handshake *handshake_create(const struct handshake_ops *ops,
				   const union sockaddr_any *upstream,
				   const union sockaddr_any *dst)
{
	struct handshake *h = calloc(1, sizeof(*h) + ops->state_size);

	if (!h)
		return NULL;
	h->ops = ops;
	h->upstream = *upstream;
	h->dst = *dst;
	return h;
}

void handshake_destroy(struct handshake *h)
{
	free(h);
}

const union sockaddr_any *handshake_upstream(const struct handshake *h)
{
	return &h->upstream;
}

const char *handshake_name(const struct handshake *h)
{
	return h->ops->name;
}

static enum handshake_progress broken(int error, int *ret_error)
{
	*ret_error = error;
	return HANDSHAKE_BROKEN;
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* Takes from the socket bytes that were peeked at. Returns false if they are gone. */
static bool take(int fd, size_t len)
{
	uint8_t buf[PIECE];
	ssize_t n;

	for (; len > 0; len -= (size_t)n) {
		n = recv(fd, buf, len, 0);
		if (n <= 0)
			return false;
	}
	return true;
}

/* Sends what is left. Returns HANDSHAKE_FINISHED if that is all of it. */
static enum handshake_progress flush(struct handshake *h, int fd, int *ret_error)
{
	ssize_t n;

	while (h->out_len > 0) {
		n = send(fd, h->out + h->out_off, h->out_len, MSG_NOSIGNAL);
		if (n < 0)
			return would_block() ? HANDSHAKE_WAIT_WRITE : broken(errno, ret_error);
		h->out_off += (size_t)n;
		h->out_len -= (size_t)n;
	}
	return HANDSHAKE_FINISHED;
}

/* Makes a step with the first len bytes in the socket, which are at in. */
static enum handshake_progress step(struct handshake *h, int fd, const uint8_t *in, size_t len,
				    int *ret_error)
{
	struct handshake_io io = { .in = in, .in_len = len };
	enum handshake_result result = h->ops->step(h->state, &h->dst, &io);

	assert(io.out_len <= sizeof(io.out) && io.taken <= len);
	if (result == HANDSHAKE_ERROR) {
		*ret_error = io.error;
		return HANDSHAKE_REFUSED;
	}
	h->done = result == HANDSHAKE_DONE;
	h->received += len;
	if (!h->done && h->received >= HANDSHAKE_IN_MAX)
		return broken(EPROTO, ret_error);
	if (!take(fd, h->done ? io.taken : len))
		return broken(ECONNRESET, ret_error);
	memcpy(h->out, io.out, io.out_len);
	h->out_off = 0;
	h->out_len = io.out_len;
	return HANDSHAKE_FINISHED;
}

enum handshake_progress handshake_run(struct handshake *h, int fd, int *ret_error)
{
	uint8_t in[PIECE];
	enum handshake_progress r;
	ssize_t n;

	for (;;) {
		r = flush(h, fd, ret_error);
		if (r != HANDSHAKE_FINISHED || h->done)
			return r;
		n = 0;
		if (h->started) {
			n = recv(fd, in, sizeof(in), MSG_PEEK);
			if (n < 0)
				return would_block() ? HANDSHAKE_WAIT_READ
						     : broken(errno, ret_error);
			/* A FIN before the end of the handshake. */
			if (n == 0)
				return broken(ECONNRESET, ret_error);
		}
		h->started = true;
		r = step(h, fd, in, (size_t)n, ret_error);
		if (r != HANDSHAKE_FINISHED)
			return r;
	}
}
