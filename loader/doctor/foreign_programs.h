/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Foreign programs on the hooks of tproxy, which doctor_attached() reports. */
#ifndef TPROXY_DOCTOR_FOREIGN_PROGRAMS_H
#define TPROXY_DOCTOR_FOREIGN_PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state/pinned_link.h"

struct doctor;

/* The links of tproxy, which tell its programs from foreign ones. */
struct pinned_links {
	struct pinned_link *list;
	size_t n;
};

/* Returns true if @hook is attached to the cgroup, or to any cgroup if @cgroup_id is 0. */
bool pinned_links_have(const struct pinned_links *links, const char *hook, uint64_t cgroup_id);

/*
 * Reports foreign programs at doctor.cgroup, and at the cgroups of @links and those above them. If
 * there are neither, reports those of the root.
 */
void foreign_programs_report(struct doctor *d, const struct pinned_links *links);

#endif
