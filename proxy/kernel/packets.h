/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel half has counted of packets since the load: the block list, by place, and the
 * traffic of the targets of the load. Read from the pinned maps, with the rights of the relay's
 * group. Any thread.
 */
#ifndef TPROXY_RELAY_PACKETS_H
#define TPROXY_RELAY_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

/* A cgroup of --cgroup or --relay-cgroup. */
struct packets_target {
	char *path;
	bool relay; /* --relay-cgroup */
	struct tproxy_traffic sum;
};

struct packets {
	struct tproxy_block_stat places[_TPROXY_PLACE_MAX];
	uint32_t n_entries[_TPROXY_BLOCK_KIND_MAX];
	bool counts_traffic;
	struct packets_target *targets; /* owned; none if traffic was never counted */
	size_t n_targets;
};

/* Returns 0 with *ret_packets set, for packets_finish(), or -errno. Does not log. */
int packets_read(const char *pin_dir, struct packets *ret_packets);
void packets_finish(struct packets *packets);

/* The words of enum tproxy_place. */
const char *packets_place_name(enum tproxy_place place);

#endif
