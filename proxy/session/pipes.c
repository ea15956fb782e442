// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See pipes.h. Pipes are made when first needed and kept for the life of the worker. */
#include "pipes.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "monotonic.h"

/* Pause after a failure to make a pipe. Its reason, such as a user's quota (pipe(7)), lasts. */
#define TRY_AGAIN_MS 1000

void pipes_init(struct pipes *pipes, uint32_t max, uint32_t size)
{
	*pipes = (struct pipes){ .max = max, .size = size };
	pthread_mutex_init(&pipes->lock, NULL);
	SLIST_INIT(&pipes->idle);
}

void pipes_finish(struct pipes *pipes)
{
	struct pipe *pipe;

	while ((pipe = SLIST_FIRST(&pipes->idle))) {
		SLIST_REMOVE_HEAD(&pipes->idle, next);
		pipes_discard(pipes, pipe);
	}
	pthread_mutex_destroy(&pipes->lock);
}

static struct pipe *pipe_create(uint32_t size)
{
	struct pipe *pipe = malloc(sizeof(*pipe));
	int fds[2];

	if (!pipe)
		return NULL;
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0) {
		free(pipe);
		return NULL;
	}
	/* With a smaller pipe, splice(2) moves no more per call than read() and write(). */
	if (fcntl(fds[1], F_SETPIPE_SZ, size) < 0) {
		close(fds[0]);
		close(fds[1]);
		free(pipe);
		return NULL;
	}
	pipe->read_fd = fds[0];
	pipe->write_fd = fds[1];
	return pipe;
}

/* An idle pipe, or with *ret_may_make room for a new one, which is counted as made already. */
static struct pipe *take_idle(struct pipes *pipes, bool *ret_may_make)
{
	struct pipe *pipe;

	pthread_mutex_lock(&pipes->lock);
	pipe = SLIST_FIRST(&pipes->idle);
	if (pipe)
		SLIST_REMOVE_HEAD(&pipes->idle, next);
	*ret_may_make = !pipe && pipes->made < pipes->max &&
			(!pipes->try_again_ms || monotonic_coarse_ms() >= pipes->try_again_ms);
	if (*ret_may_make)
		pipes->made++;
	pthread_mutex_unlock(&pipes->lock);
	return pipe;
}

struct pipe *pipes_borrow(struct pipes *pipes)
{
	bool may_make;
	struct pipe *pipe = take_idle(pipes, &may_make);

	if (!may_make)
		return pipe;
	pipe = pipe_create(pipes->size);
	pthread_mutex_lock(&pipes->lock);
	pipes->try_again_ms = pipe ? 0 : monotonic_coarse_ms() + TRY_AGAIN_MS;
	if (!pipe)
		pipes->made--;
	pthread_mutex_unlock(&pipes->lock);
	return pipe;
}

void pipes_return(struct pipes *pipes, struct pipe *pipe)
{
	pthread_mutex_lock(&pipes->lock);
	SLIST_INSERT_HEAD(&pipes->idle, pipe, next);
	pthread_mutex_unlock(&pipes->lock);
}

void pipes_discard(struct pipes *pipes, struct pipe *pipe)
{
	close(pipe->read_fd);
	close(pipe->write_fd);
	free(pipe);
	pthread_mutex_lock(&pipes->lock);
	pipes->made--;
	pthread_mutex_unlock(&pipes->lock);
}
