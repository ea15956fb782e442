/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The registrations of relays in map_config, as tproxy-load finds and leaves them. */
#ifndef TPROXY_LOADER_RELAYS_H
#define TPROXY_LOADER_RELAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tproxy_abi.h"

struct targets;

/* A registration, copied from the map. */
struct relays_entry {
	__u64 netns_cookie;
	struct tproxy_relay relay;
	bool shut_out; /* in a served cgroup, but it may no longer open the pins */
};

struct relays {
	struct relays_entry *taken;
	size_t n_taken;
};

/*
 * Copies all registrations. A walk over the map cannot continue from a deleted key, so copy before
 * deleting. Returns how many; the caller frees *ret_list, which is NULL if there is no memory.
 */
size_t relays_read(int map_fd, struct relays_entry **ret_list);

/*
 * Deletes registrations whose process is gone, and logs each. A killed relay leaves its entry
 * behind: it is harmless, because the mark ended with the listener, but it occupies a slot. Does
 * nothing outside of the initial PID namespace, where PIDs mean other processes.
 */
void relays_forget_dead(int map_fd);

/*
 * Withdraws registrations of relays that @targets do not serve: such a relay cannot learn
 * destinations, and would reset every connection. The same holds for relays that cannot renew their
 * registration, see relays_can_open(). @moved: the targets differ from the previous ones, so a
 * relay whose cgroup cannot be found out is withdrawn too. @gid: the group of the pins. Deletes the
 * entries, appends them to *relays and returns how many were deleted.
 */
size_t relays_take_outside(int map_fd, const struct targets *targets, bool moved, gid_t gid,
			   struct relays *relays);

/*
 * Returns true if the relay may open pins of group @gid, as it does every second. Returns true also
 * if that cannot be found out, and for a proxy that tproxyctl has registered, which never opens
 * them.
 */
bool relays_can_open(const struct tproxy_relay *relay, gid_t gid);

/*
 * Puts withdrawn registrations back, unless another relay has registered for that network namespace
 * since.
 */
void relays_restore(int map_fd, const struct relays *relays);
void relays_finish(struct relays *relays);

/* Returns how many relays are registered. */
size_t relays_count(int map_fd);

#endif
