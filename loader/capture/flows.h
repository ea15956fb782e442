/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connections of a capture: map_capture and map_flows, see bpf/flow.bpf.h. The kernel half
 * publishes addresses of connections as long as flows_tick() is called; captures may run at the
 * same time, and the last one to end deletes all entries.
 */
#ifndef TPROXY_CAPTURE_FLOWS_H
#define TPROXY_CAPTURE_FLOWS_H

#include <stdbool.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct flows;
struct packet;

/* What is known of the connection of a packet. */
struct flow {
	struct tproxy_flow of;
	bool outgoing; /* sent by the socket that has called connect() */
	/* The caller's decision. It is kept while the answer is cached. */
	enum {
		FLOW_UNDECIDED,
		FLOW_WANTED,
		FLOW_REFUSED
	} verdict;
};

/*
 * Opens the maps, for this network namespace. Returns 0 or -errno, logged. The caller calls
 * flows_close().
 */
int flows_open(const char *pin_dir, struct flows **ret_flows);
/* Stops the publication, unless another capture runs. NULL is accepted. */
void flows_close(struct flows *flows);

/* Returns false if the maps were unloaded, also if others are loaded by now. */
bool flows_are_pinned(const struct flows *flows);

/* map_flows, and the cookie of the network namespace. */
int flows_fd(const struct flows *flows);
uint64_t flows_netns_cookie(const struct flows *flows);

/*
 * Starts the publication, and adds the connections that exist: redirected ones with the leg to the
 * relay, and observed ones. Call it once packets are captured, so that no SYN is missed. Returns 0
 * or -errno, logged.
 */
int flows_start(struct flows *flows);
/* Call it every FLOWS_TICK_MS. */
#define FLOWS_TICK_MS 200
void flows_tick(struct flows *flows);

/*
 * Finds the connection of a packet. Returns NULL if it is not known any more. The result is valid
 * until the next call.
 */
struct flow *flows_find(struct flows *flows, const struct packet *packet);

/* Connections that were not published since flows_start(), for lack of room or because of a stall.
 */
uint64_t flows_missed(const struct flows *flows);
/*
 * Returns true if publication has stopped for a while, because no capture has called flows_tick().
 * Connections that began meanwhile are missing, and not all of them are in flows_missed().
 */
bool flows_have_stalled(const struct flows *flows);

#endif
