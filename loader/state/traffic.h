/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The counts of traffic by cgroup: map_traffic and map_traffic_sums, see tproxy_abi.h. They are
 * counted while TPROXY_BLOCK_TRAFFIC is set: from a load with --traffic on, or while a `tproxyctl
 * top --by traffic` runs. The counts go on from where they were when the flag is set again.
 */
#ifndef TPROXY_STATE_TRAFFIC_H
#define TPROXY_STATE_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

struct pins;
struct tproxy_traffic;

enum traffic_state {
	TRAFFIC_OFF,
	TRAFFIC_FOR_NOW, /* until the process that needs it ends */
	TRAFFIC_STAYS,	 /* by --traffic, until a load without it */
};

/* Returns TRAFFIC_OFF also if the state cannot be read. */
enum traffic_state traffic_state(const char *pin_dir);

/*
 * Sets or clears the flag, and attaches or detaches the programs. A start also makes the entries of
 * map_traffic_sums those of map_targets, and forgets removed cgroups. The pins must be locked.
 * Returns 0 or -errno, logged.
 */
int traffic_set(const struct pins *pins, enum traffic_state state);

/*
 * The same for a process that needs the counts for a while: with the lock, and without an effect
 * while the state is TRAFFIC_STAYS.
 */
int traffic_set_for_now(const char *pin_dir, bool counted);

/*
 * Deletes the entries of cgroups that have been removed, if this process can tell. Takes no lock.
 * Returns 0 or -errno, not logged.
 */
int traffic_forget_removed(const char *pin_dir);

/*
 * Calls @fn for each entry of map_traffic, with the sums of all CPUs, until it returns nonzero, and
 * returns that value. Returns -errno, not logged, if the map cannot be read. The id is 0 for what
 * found no room in the map.
 */
int traffic_read(const char *pin_dir,
		 int (*fn)(uint64_t cgroup_id, const struct tproxy_traffic *traffic, void *data),
		 void *data);

#endif
