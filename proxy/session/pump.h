/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A pump moves bytes in one direction, from one socket to another. It knows nothing of events: a
 * call moves what it can without blocking and returns what the pump waits for.
 *
 * Small messages are read into the worker's scratch buffer and written immediately. Bytes that the
 * destination does not take are kept, and nothing more is read until they are written. A pump
 * therefore keeps at most scratch_size bytes, and normally none.
 *
 * A flow that fills the scratch buffer repeatedly is bulk. It goes through a borrowed pipe with
 * splice(2), which does not copy.
 *
 * An urgent byte (MSG_OOB) is passed on as urgent, in its place. For this src_fd must have
 * SO_OOBINLINE. Without that, poll does not report such a byte and reads skip it: it is lost, and
 * no other byte is sent as urgent.
 */
#ifndef TPROXY_PUMP_H
#define TPROXY_PUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pipe;
struct pipes;

/* Resources of a worker that its pumps share. */
struct pump_env {
	char *scratch; /* used within one call only */
	size_t scratch_size;
	struct pipes *pipes;
	size_t turn_bytes; /* limit of bytes in one call, exceeded by one buffer at most */
	uint64_t spliced;  /* bytes that went through a pipe; the owner counts and clears them */
};

/* Bytes that were read and are not yet written to the destination. */
struct pump_kept {
	uint32_t off, len; /* len bytes at data + off are left */
	bool urgent;	   /* one urgent byte */
	char data[];
};

/* Two for each connection, so it is kept small. */
struct pump {
	int src_fd;		/* not owned */
	int dst_fd;		/* not owned */
	struct pump_kept *kept; /* owned, NULL if nothing is kept */
	struct pipe *pipe;	/* borrowed while in_pipe > 0 */
	uint64_t bytes;		/* written to dst_fd */
	uint32_t in_pipe;	/* bytes in the pipe */
	/* Bytes read since data went the other way, up to the limit that acknowledge() needs. */
	uint16_t unanswered;
	uint8_t full_reads : 2; /* reads in a row that filled the scratch buffer, up to a limit */
	uint8_t prefetch_error : 3; /* enum pump_result of an error in pump_prefetch(), or 0 */
	bool short_read : 1;	    /* pump_prefetch() read all that was there */
	bool no_splice : 1;	    /* this pair of sockets does not support it */
	bool no_urgent : 1;	    /* dst_fd is no TCP socket: urgent bytes are sent as others */
	bool nagle : 1; /* dst_fd has Nagle's algorithm, turned off before the second write */
	/*
	 * src_fd's peer is on this host, where segments have up to 64 KiB. Data that is several
	 * segments elsewhere, which a receiver acknowledges immediately, is part of one segment
	 * here. A sender with Nagle's algorithm or a small SO_SNDBUF then waits for an
	 * acknowledgement that the kernel delays by 40 ms.
	 */
	bool near_src : 1;
};

enum pump_result {
	PUMP_WAIT_READ,	  /* 0; all data read is written; the source may have more */
	PUMP_WAIT_WRITE,  /* the destination's buffer is full */
	PUMP_EOF,	  /* the source has sent its FIN, and all its data is written */
	PUMP_READ_ERROR,  /* errno is set; all data read before is written */
	PUMP_WRITE_ERROR, /* errno is set */
	PUMP_NO_MEMORY,	  /* bytes were read that can be neither written nor kept: they are lost */
};

/* Initialises a pump. It does not own the descriptors. */
void pump_init(struct pump *pump, int src_fd, int dst_fd);
/* Frees what the pump keeps, and discards its pipe with the bytes in it. */
void pump_finish(struct pump *pump, struct pump_env *env);
/* Returns how many bytes were read and are not written yet. */
size_t pump_held(const struct pump *pump);
/* True if the flow is bulk: pump_run() will move many bytes. */
bool pump_is_bulk(const struct pump *pump);
/* Moves bytes until one side blocks or ends, or turn_bytes have been moved. */
enum pump_result pump_run(struct pump *pump, struct pump_env *env);
/*
 * Called before dst_fd is connected: reads what has arrived, 4 KiB at most, for the first
 * pump_run() to write. Returns true if there was data. A FIN or an error is left to pump_run().
 */
bool pump_prefetch(struct pump *pump, struct pump_env *env);

#endif
