/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How bytes move in one direction, from one socket to another. Knows nothing of events: it moves
 * what it can without blocking and says what it waits for.
 *
 * Small talk is read into the worker's scratch buffer and written at once; what the destination
 * does not take is kept, and nothing more is read until that is gone. So a pump never holds more
 * than scratch_size bytes, and in general none. A flow that fills the scratch buffer again
 * and again goes through a borrowed pipe with splice(2) instead, which does not copy.
 *
 * An urgent byte (MSG_OOB) is sent on as one, in its place. For that src_fd has to have
 * SO_OOBINLINE: without it, poll does not tell of such a byte and a read goes past it, so that it
 * is left out, and no other one is sent in its place.
 */
#ifndef TPROXY_PUMP_H
#define TPROXY_PUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pipe;
struct pipes;

/* What a worker lends to its pumps. */
struct pump_tools {
	char *scratch; /* used within one call only */
	size_t scratch_size;
	struct pipes *pipes;
	size_t turn_bytes; /* that one call moves, or one buffer more, before others have a turn */
};

struct pump {
	int src_fd; /* not owned */
	int dst_fd; /* not owned */
	char *kept; /* read, and not yet written: owned, NULL if none */
	uint32_t kept_off, kept_len;
	bool kept_urgent;  /* kept is one urgent byte */
	uint32_t piped;	   /* bytes in the pipe */
	struct pipe *pipe; /* borrowed while piped > 0 */
	uint64_t bytes;	   /* written to dst_fd */
	uint64_t spliced;  /* of these, through a pipe */
	uint8_t full_reads;
	bool no_splice; /* this pair of sockets does not support it */
	/*
	 * src_fd's peer is on this host, where segments have up to 64 KiB. So what is several
	 * segments elsewhere, which a receiver acknowledges at once, is a part of one here, and a
	 * sender with Nagle's algorithm or a small buffer (SO_SNDBUF) waits for an acknowledgement
	 * that the kernel delays by 40 ms.
	 */
	bool near_src;
	uint32_t unanswered; /* bytes read since something went the other way, if that is few */
	bool nagle; /* dst_fd has Nagle's algorithm, to be turned off before the second write */
	bool short_read;    /* kept is all that pump_prefetch() found */
	int prefetch_error; /* of pump_prefetch(): an enum pump_result, 0 if there was none */
};

enum pump_result {
	PUMP_WAIT_READ,	  /* 0; all that was read is written; more may be there to read */
	PUMP_WAIT_WRITE,  /* the destination is full */
	PUMP_EOF,	  /* the source has ended, all of it is written */
	PUMP_READ_ERROR,  /* errno; all that was read before is written */
	PUMP_WRITE_ERROR, /* errno */
	PUMP_NO_MEMORY,	  /* bytes were read that can neither be written nor kept */
};

void pump_init(struct pump *pump, int src_fd, int dst_fd);
/* Gives back and frees what it holds. */
void pump_finish(struct pump *pump, struct pump_tools *tools);
/* Has it filled a buffer again and again, so that pump_run() will take its time? */
bool pump_is_bulk(const struct pump *pump);
enum pump_result pump_run(struct pump *pump, struct pump_tools *tools);
/*
 * Before dst_fd can be written: reads what has come, 4 KiB at most, for the first pump_run() to
 * write. Whether that is anything; an end of file or an error is left to pump_run() too.
 */
bool pump_prefetch(struct pump *pump, struct pump_tools *tools);

#endif
