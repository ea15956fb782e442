// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: refuses to stop a foreign program, see foreign_check.h. Where tproxy's program is
 * attached already, a refusal would not bring the other one back, so that is a warning.
 */
#include "foreign_check.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "log.h"
#include "objects.h"
#include "state/foreign.h"
#include "state/pinned_link.h"
#include "targets.h"

/* Returns the id of tproxy's program that is attached to this hook of a cgroup, 0 if none. */
static __u32 own_id(const struct pins *pins, const struct hook *hook, uint64_t cgroup_id)
{
	char name[PINS_LINK_LEN];
	struct pinned_link link;

	pins_format_link(hook->name, cgroup_id, name);
	return pinned_link_read(pins, name, &link) == 0 && link.attached ? link.prog_id : 0;
}

static int check_at(const struct pins *pins, const struct hook *hook, const struct cgroup *cgroup,
		    bool force)
{
	const __u32 own = own_id(pins, hook, cgroup->id);
	char text[FOREIGN_TEXT_LEN], fix[FOREIGN_FIX_LEN];
	struct foreign foreign;
	int r;

	r = foreign_find(cgroup, hook, own, &foreign);
	if (r < 0 && !force)
		log_err("cannot look for other programs of %s at '%s': %s; --force loads without",
			hook->name, cgroup->path, strerror(-r));
	if (r <= 0)
		return force ? 0 : r;
	foreign_describe(&foreign, cgroup, own != 0, text);
	foreign_fix(&foreign, fix);
	if (own || force) {
		log_warning("%s; %s", text, fix);
		return 0;
	}
	log_err("%s; load with --force, or run this first: %s", text, fix);
	return -EPERM;
}

int foreign_check(const struct pins *pins, const struct targets *targets, bool force)
{
	size_t i, j;
	int r = 0;

	for (i = 0; i < _HOOK_MAX && r == 0; i++) {
		if (targets_want_relay(targets, &hooks[i]))
			r = check_at(pins, &hooks[i], &targets->relay, force);
		for (j = 0;
		     targets_want_scopes(targets, &hooks[i]) && j < targets->n_scopes && r == 0;
		     j++)
			r = check_at(pins, &hooks[i], &targets->scopes[j], force);
	}
	return r;
}
