/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A worker's pipes for splice(2). They are few, two descriptors each, and lent: to a flow that
 * moves bulk data, while it does, so that no idle connection holds one. A pipe comes back empty.
 */
#ifndef TPROXY_PIPES_H
#define TPROXY_PIPES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct pipe {
	int read_fd;
	int write_fd;
	SLIST_ENTRY(pipe) next; /* pipes::idle */
};

struct pipes {
	SLIST_HEAD(, pipe) idle;
	uint32_t made;
	uint32_t max;
	uint32_t size;	       /* bytes */
	uint64_t try_again_ms; /* of deadline_now_ms(): none could be made, and none is till then */
};

/*
 * An unprivileged user may have 64 MiB of pipe buffers before the kernel makes new ones tiny
 * (pipe-user-pages-soft, pipe(7)): 128 pipes of 512 KiB.
 */
void pipes_init(struct pipes *pipes, uint32_t max, uint32_t size);
/* All pipes must have come back. */
void pipes_finish(struct pipes *pipes);

/*
 * NULL: all are lent, or none could be made, in this call or in the second before it. Then the flow
 * does without, and may ask again at each turn.
 */
struct pipe *pipes_borrow(struct pipes *pipes);
void pipes_return(struct pipes *pipes, struct pipe *pipe);
/* A pipe that is lent goes to another worker with its flow, or comes from one. */
void pipes_give_away(struct pipes *pipes);
void pipes_adopt(struct pipes *pipes);
/* For a pipe that is not empty: it is closed, with what is in it. */
void pipes_discard(struct pipes *pipes, struct pipe *pipe);

#endif
