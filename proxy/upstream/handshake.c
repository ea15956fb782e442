// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See handshake.h. handshake_run() first sends what the last step has left. Then it reads or peeks,
 * has the protocol make a step, takes the step's bytes from the socket, and begins again. Nothing
 * is read while something is to be sent: a step's output is small, and this bounds the memory.
 * After something was sent the driver waits for an event: a read at once would find nothing,
 * because an answer takes at least a round trip.
 *
 * An upstream that sends HANDSHAKE_IN_MAX bytes and is not done is refused, so a handshake ends.
 *
 * A step writes its output, which may have a password, to pages of the thread that core dumps leave
 * out. It is sent from there and overwritten. What the socket does not take moves to such a page of
 * the handshake.
 */
#include "handshake.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "secret.h"
#include "util.h"

/* Limit of the bytes that are read, or peeked at, for one step. */
#define PIECE 1024

struct handshake {
	const struct handshake_ops *ops;
	struct handshake_target target;
	bool started, done, accepted;
	bool in_answer; /* the last step had input, and no output */
	bool partial;	/* handshake_io::partial of the last step */
	char why[HANDSHAKE_WHY_LEN];
	size_t received;	 /* bytes of the upstream, in all steps */
	size_t least;		 /* handshake_io::least of the last step */
	size_t out_off, out_len; /* what is to be sent, in kept, or else in scratch->out */
	uint8_t *kept;		 /* secret_memory_new(), or NULL */
	alignas(max_align_t) uint8_t state[]; /* the protocol's */
};

/* For the steps of all handshakes of a thread; made with the first one, and never freed. */
static _Thread_local struct handshake_io *scratch;

struct handshake *handshake_create(const struct handshake_ops *ops,
				   const struct handshake_target *target)
{
	struct handshake *h;

	if (!scratch)
		scratch = secret_memory_new(sizeof(*scratch));
	h = scratch ? calloc(1, sizeof(*h) + ops->state_size) : NULL;
	if (!h)
		return NULL;
	h->ops = ops;
	h->target = *target;
	return h;
}

void handshake_destroy(struct handshake *h)
{
	if (!h)
		return;
	secret_memory_free(h->kept, HANDSHAKE_OUT_MAX);
	free(h);
}

const struct handshake_ops *handshake_ops_of(const struct handshake *h)
{
	return h->ops;
}

const char *handshake_why(const struct handshake *h)
{
	return h->why;
}

bool handshake_was_answered(const struct handshake *h)
{
	return h->received > 0 && !h->partial;
}

bool handshake_is_in_answer(const struct handshake *h)
{
	return h->in_answer;
}

bool handshake_is_partial(const struct handshake *h)
{
	return h->partial;
}

bool handshake_was_accepted(const struct handshake *h)
{
	return h->accepted;
}

/* Returns the progress for the result of the step that ended the handshake without success. */
static enum handshake_progress progress_of(enum handshake_result result)
{
	if (result == HANDSHAKE_ERROR)
		return HANDSHAKE_REFUSED;
	return result == HANDSHAKE_NOT_SERVED ? HANDSHAKE_DECLINED : HANDSHAKE_BROKEN;
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
static enum handshake_progress flush(struct handshake *h, int fd, bool bytes_follow, int *ret_error)
{
	const int flags = MSG_NOSIGNAL | (bytes_follow ? MSG_MORE : 0);
	const uint8_t *out = h->kept ? h->kept : scratch->out;
	ssize_t n;

	while (h->out_len > 0) {
		n = send(fd, out + h->out_off, h->out_len, flags);
		if (n < 0)
			return would_block() ? HANDSHAKE_WAIT_WRITE : broken(errno, ret_error);
		h->out_off += (size_t)n;
		h->out_len -= (size_t)n;
	}
	secret_memory_free(TAKE_PTR(h->kept), HANDSHAKE_OUT_MAX);
	return HANDSHAKE_FINISHED;
}

/* Moves what is still to be sent to a page of the handshake. Returns false if there is none. */
static bool keep(struct handshake *h)
{
	if (h->kept)
		return true;
	h->kept = secret_memory_new(HANDSHAKE_OUT_MAX);
	if (!h->kept)
		return false;
	memcpy(h->kept, scratch->out + h->out_off, h->out_len);
	h->out_off = 0;
	return true;
}

/* Makes a step with the bytes at io->in. peeked: they are still in the socket. */
static enum handshake_progress step(struct handshake *h, int fd, struct handshake_io *io,
				    bool peeked, int *ret_error)
{
	enum handshake_result result = h->ops->step(h->state, &h->target, io);
	const size_t len = io->in_len;

	assert(io->out_len <= sizeof(io->out) && io->taken <= len);
	h->received += len;
	h->accepted |= io->accepted;
	if (result != HANDSHAKE_AGAIN && result != HANDSHAKE_DONE) {
		*ret_error = io->error;
		memcpy(h->why, io->why, sizeof(h->why) - 1);
		return progress_of(result);
	}
	h->done = result == HANDSHAKE_DONE;
	if (!h->done && h->received >= HANDSHAKE_IN_MAX)
		return broken(EPROTO, ret_error);
	assert(peeked || !h->done || io->taken == len);
	if (peeked && !take(fd, h->done ? io->taken : len))
		return broken(ECONNRESET, ret_error);
	h->least = io->least;
	h->in_answer = len > 0 && io->out_len == 0;
	h->partial = io->partial;
	h->out_off = 0;
	h->out_len = io->out_len;
	return HANDSHAKE_FINISHED;
}

/* Makes a step with what the upstream has sent. */
static enum handshake_progress read_and_step(struct handshake *h, int fd, int *ret_error)
{
	const bool peeks = !h->least;
	uint8_t in[PIECE];
	ssize_t n = 0;

	if (h->started) {
		n = recv(fd, in, peeks || h->least > PIECE ? PIECE : h->least,
			 peeks ? MSG_PEEK : 0);
		if (n < 0)
			return would_block() ? HANDSHAKE_WAIT_READ : broken(errno, ret_error);
		/* A FIN before the end of the handshake. */
		if (n == 0)
			return broken(ECONNRESET, ret_error);
	}
	h->started = true;
	memset(scratch, 0, sizeof(*scratch));
	scratch->in = in;
	scratch->in_len = (size_t)n;
	return step(h, fd, scratch, peeks, ret_error);
}

static enum handshake_progress run(struct handshake *h, int fd, bool bytes_follow, int *ret_error)
{
	enum handshake_progress r;
	bool sends;

	for (;;) {
		sends = h->out_len > 0;
		r = flush(h, fd, bytes_follow, ret_error);
		if (r != HANDSHAKE_FINISHED || h->done)
			return r;
		if (sends)
			return HANDSHAKE_WAIT_READ;
		r = read_and_step(h, fd, ret_error);
		if (r != HANDSHAKE_FINISHED)
			return r;
	}
}

enum handshake_progress handshake_run(struct handshake *h, int fd, bool bytes_follow,
				      int *ret_error)
{
	enum handshake_progress r = run(h, fd, bytes_follow, ret_error);

	if (r == HANDSHAKE_WAIT_WRITE && !keep(h))
		r = broken(ENOMEM, ret_error);
	explicit_bzero(scratch->out, scratch->out_len);
	return r;
}
