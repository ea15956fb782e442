/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The registrations of relays in map_config, as a load finds and leaves them. */
#ifndef TPROXY_LOADER_RELAYS_H
#define TPROXY_LOADER_RELAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tproxy_abi.h"

struct targets;

/* A registration that was taken out. */
struct relays_entry {
	__u64 netns_cookie;
	struct tproxy_relay relay;
	bool shut_out; /* it is where it has to be, but may not open the pins any more */
};

struct relays {
	struct relays_entry *taken;
	size_t n_taken;
};

/*
 * All of them, before any is deleted: a walk cannot go on from a key that is gone. Returns how
 * many; the caller frees *ret_list. NULL: there are none, or no memory.
 */
size_t relays_read(int map_fd, struct relays_entry **ret_list);

/*
 * Deletes registrations whose process is gone: such a relay was killed, or its network namespace is
 * gone. Logs each. In another PID namespace than the host's it can tell of none.
 */
void relays_forget_dead(int map_fd);

/*
 * Takes out those of relays that these targets do not serve: what was redirected to one would be
 * reset, for it is not told the destination. moved: the targets are others than before, so that one
 * whose cgroup cannot be found out is taken out too. Likewise those that cannot renew their
 * registration, see relays_can_open(). Returns how many. Appends to *relays.
 */
size_t relays_take_outside(int map_fd, const struct targets *targets, bool moved, gid_t gid,
			   struct relays *relays);

/*
 * May this relay open pins of that group, as it does every second? True as well where we cannot
 * tell, and of a proxy that tproxyctl has registered, which never does.
 */
bool relays_can_open(const struct tproxy_relay *relay, gid_t gid);

/* Puts back what was taken out, unless another relay is registered there by now. */
void relays_restore(int map_fd, const struct relays *relays);
void relays_finish(struct relays *relays);

/* How many are registered. */
size_t relays_count(int map_fd);

#endif
