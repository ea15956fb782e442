/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A pool of pipes for splice(2), shared by a worker and its bulk worker (handoff.h): a session
 * takes its pipe along, so the limit holds for both. Pipes are few, because each needs two
 * descriptors. A flow borrows one only while it moves bulk data, so no idle connection holds one.
 * It returns the pipe empty.
 */
#ifndef TPROXY_PIPES_H
#define TPROXY_PIPES_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct pipe {
	int read_fd;
	int write_fd;
	SLIST_ENTRY(pipe) next; /* pipes::idle */
};

struct pipes {
	pthread_mutex_t lock; /* of all below but max and size, which do not change */
	SLIST_HEAD(, pipe) idle;
	uint32_t made; /* idle and borrowed pipes */
	uint32_t max;
	uint32_t size;	       /* bytes */
	uint64_t try_again_ms; /* of monotonic_coarse_ms(): after a failure, no new pipe before this
				*/
};

/*
 * Initialises a pool of at most max pipes of size bytes. An unprivileged user may have 64 MiB of
 * pipe buffers, which are 128 pipes of 512 KiB. Beyond that the kernel makes new pipes tiny
 * (pipe-user-pages-soft, pipe(7)).
 */
void pipes_init(struct pipes *pipes, uint32_t max, uint32_t size);
/* Closes all pipes. All must have been returned. */
void pipes_finish(struct pipes *pipes);

/*
 * Returns an empty pipe, or NULL if all are borrowed or none could be made within the last second.
 * The flow then copies its data, and may try again at each turn.
 */
struct pipe *pipes_borrow(struct pipes *pipes);
/* Gives back an empty pipe. */
void pipes_return(struct pipes *pipes, struct pipe *pipe);
/* Closes a borrowed pipe that is not empty, and so discards its bytes. */
void pipes_discard(struct pipes *pipes, struct pipe *pipe);

#endif
