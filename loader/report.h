/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a load prints when it is done: what holds now, and what held before. */
#ifndef TPROXY_LOADER_REPORT_H
#define TPROXY_LOADER_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "relays.h"
#include "tproxy_abi.h"

struct options;
struct targets;

/* What was loaded before. */
struct report_before {
	bool loaded;		    /* else the rest is not set */
	struct tproxy_target *list; /* NULL: not known */
	size_t n;
	struct tproxy_policy policy;
	gid_t relay_gid;
};

void report_load(const struct report_before *before, const struct targets *targets,
		 const struct tproxy_policy *policy, const struct options *options, size_t n_relays,
		 const struct relays *outside);

/* What --check prints. */
void report_check(const struct targets *targets, bool fail_closed, const char *pin_dir);

/* True if relays are served in other cgroups than before. */
bool report_moved(const struct report_before *before, const struct targets *targets);

#endif
