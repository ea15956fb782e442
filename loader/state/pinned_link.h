/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A link of tproxy, as it is pinned: which hook it attaches to which cgroup. */
#ifndef TPROXY_STATE_PINNED_LINK_H
#define TPROXY_STATE_PINNED_LINK_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "pins.h"

struct cgroup;
struct hook;

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

/*
 * Attaches a program to a hook of @cgroup, and pins the link. A link that is pinned already gets
 * the program in one step (bpf_link_update), so the hook has a program at every moment. The pins
 * must be locked. *ret_created says whether the pin is new, also after a failure. Returns 0 or
 * -errno, logged.
 */
int pinned_link_attach(const struct pins *pins, const struct hook *hook,
		       const struct cgroup *cgroup, int prog_fd, bool *ret_created);

/*
 * Detaches a pinned link at once, even if other processes hold it open, and removes the pin. The
 * pins must be locked. Returns 0 or -errno, logged.
 */
int pinned_link_remove(const struct pins *pins, const char *name);

#endif
