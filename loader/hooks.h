/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The programs, in the order in which they are attached, and to which cgroups. */
#ifndef TPROXY_LOADER_HOOKS_H
#define TPROXY_LOADER_HOOKS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

struct hook {
	const char
		*name; /* pins are prog_NAME and link_NAME_<cgroup id>, the program tproxy_NAME */
	bool scope;    /* where clients are; neither: it is pinned only */
	bool relay;    /* where relays are */
	enum bpf_attach_type attach_type;
};

extern const struct hook hooks[];
extern const size_t n_hooks;

/* NULL: no program of this version has that name. */
const struct hook *hook_by_name(const char *name);

#endif
