/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The BPF programs in attach order, and the cgroups to which each is attached. */
#ifndef TPROXY_STATE_HOOKS_H
#define TPROXY_STATE_HOOKS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

struct hook {
	/* pins are prog_NAME and link_NAME_<cgroup id>, the program is tproxy_NAME */
	const char *name;
	bool scope; /* attached at scopes, where clients run; neither flag: pinned only */
	bool relay; /* attached where relays run */
	enum bpf_attach_type attach_type;
};

extern const struct hook hooks[];
extern const size_t n_hooks;

/* Returns NULL if no program of this version has that name. */
const struct hook *hook_by_name(const char *name);

#endif
