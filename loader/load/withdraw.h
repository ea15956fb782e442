/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Takes back registrations in map_config: those of relays that are gone, and those of relays that
 * a load cuts off from their destinations. The latter are kept here, to be restored if the load
 * fails.
 */
#ifndef TPROXY_LOAD_WITHDRAW_H
#define TPROXY_LOAD_WITHDRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "state/relays.h"

struct targets;

struct withdrawn {
	struct relays_entry *list;
	size_t n;
};

/*
 * Deletes registrations whose process is gone, and logs each. A killed relay leaves its entry
 * behind: it is harmless, because the mark ended with the listener, but it occupies a slot. Does
 * nothing outside of the initial PID namespace, where PIDs mean other processes.
 */
void withdraw_dead(int map_fd);

/* Deletes all registrations. */
void withdraw_all(int map_fd);

/*
 * Withdraws registrations of relays that @targets do not serve: such a relay cannot learn
 * destinations, and would reset every connection. The same holds for relays that cannot renew their
 * registration, see relays_can_open(). @moved: the targets differ from the previous ones, so a
 * relay whose cgroup cannot be found out is withdrawn too. @gid: the group of the pins. Deletes the
 * entries, appends them to *to and returns how many were deleted.
 */
size_t withdraw_outside(int map_fd, const struct targets *targets, bool moved, gid_t gid,
			struct withdrawn *to);

/*
 * Puts withdrawn registrations back, unless another relay has registered for that network namespace
 * since.
 */
void withdraw_restore(int map_fd, const struct withdrawn *withdrawn);
void withdraw_finish(struct withdrawn *withdrawn);

#endif
