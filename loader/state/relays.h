/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The registrations of relays in map_config, copied from the map. */
#ifndef TPROXY_STATE_RELAYS_H
#define TPROXY_STATE_RELAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tproxy_abi.h"

/* A registration, copied from the map. */
struct relays_entry {
	__u64 netns_cookie;
	struct tproxy_relay relay;
	bool shut_out; /* in a served cgroup, but it may no longer open the pins */
};

/*
 * Copies all registrations, in no particular order. BPF_MAP_LOOKUP_BATCH visits each bucket of the
 * hash once, so none is missed or copied twice while others come and go. Returns 0 or -errno, not
 * logged. The caller frees *ret_list.
 */
int relays_read(int map_fd, struct relays_entry **ret_list, size_t *ret_n);
/* Opens map_config in @pin_dir first; errors as of bpffs_open_map(). */
int relays_read_pinned(const char *pin_dir, struct relays_entry **ret_list, size_t *ret_n);

/*
 * Returns true if the relay may open pins of group @gid, as it does every second. Returns true also
 * if that cannot be found out, and for a proxy that tproxyctl has registered, which never opens
 * them.
 */
bool relays_can_open(const struct tproxy_relay *relay, gid_t gid);

#endif
