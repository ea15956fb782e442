/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sniffing: the relay looks at the first bytes of a client for the name of the destination. The
 * bytes are not consumed, they stay in the socket.
 *
 * This is done on ports where the client speaks first. A wait for the client ends after
 * SNIFF_WAIT_MS. A destination whose client has sent nothing by then is remembered for
 * SNIFF_SILENT_MS: the server speaks first there. The relay does not wait for the next clients of
 * the same user there, but looks at what they have sent already.
 */
#ifndef TPROXY_SNIFF_H
#define TPROXY_SNIFF_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parse.h"
#include "sniffed.h"

struct event_base;

#define SNIFF_WAIT_MS	300
#define SNIFF_SILENT_MS 60000

/* Silent destinations, shared by all threads. */
#define SNIFF_SILENT_SLOTS 1024
struct sniff_silent {
	uint64_t seed; /* so that no user can choose which destinations share a slot */
	_Atomic uint64_t slots[SNIFF_SILENT_SLOTS];
};

void sniff_silent_init(struct sniff_silent *silent);

/* Looks for a name in the first len bytes of a client. Pure. */
enum sniff_result sniff_name(const void *data, size_t len, struct sniffed *ret);

struct sniff;

/* Called when the wait has ended, in the thread of the base. The owner calls sniff_end(). */
typedef void (*sniff_done_fn)(void *arg);

/* A client whose bytes are looked at. */
struct sniff_request {
	struct event_base *base;
	int fd; /* the client's socket */
	const union sockaddr_any *dst;
	uint32_t uid; /* the client's user */
	struct sniff_silent *silent;
	sniff_done_fn done;
	void *arg;
};

/*
 * Looks at what the client has sent. Returns SNIFF_MORE if more must come: *ret_sniff is then the
 * wait, and done() will be called once, later. Other results are in *ret_sniffed at once.
 */
enum sniff_result sniff_begin(const struct sniff_request *request, struct sniff **ret_sniff,
			      struct sniffed *ret_sniffed);
/*
 * Ends the wait, also before done() was called, leaves the socket as it was, and frees the wait.
 * Returns the result: SNIFF_NAME, SNIFF_NONE or SNIFF_RESET.
 */
enum sniff_result sniff_end(struct sniff *sniff, struct sniffed *ret_sniffed);

#endif
