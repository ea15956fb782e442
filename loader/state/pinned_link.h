/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A link of tproxy, as it is pinned: which hook it attaches to which cgroup. */
#ifndef TPROXY_STATE_PINNED_LINK_H
#define TPROXY_STATE_PINNED_LINK_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "pins.h"

struct pinned_link {
	char hook[PINS_LINK_LEN];
	uint64_t cgroup_id; /* as in the name of the pin */
	__u32 link_id;
	__u32 prog_id;
	bool attached; /* false: the kernel has detached it, because its cgroup was removed */
};

/*
 * Reads the link that is pinned as @name. Only pins->path has to be set. Returns 0, -EINVAL if this
 * is not the name of a link, or another -errno, such as -EROFS: the kernel opens links for writing
 * only. Not logged.
 */
int pinned_link_read(const struct pins *pins, const char *name, struct pinned_link *ret_link);

#endif
