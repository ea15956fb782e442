// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the cgroups of the load. A cgroup that was removed and created again has the
 * same path and is another cgroup, to which nothing is attached. Connections of its processes go
 * out directly, with --fail-closed too. A service manager does that at each restart of a service.
 * map_targets keeps path and id of each cgroup, and target_state_of() compares them.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "doctor.h"
#include "quote.h"
#include "state/target_list.h"
#include "tproxy_abi.h"

/* Returns true if there is no finding. */
static bool check_target(struct doctor *d, const struct tproxy_target *target)
{
	const bool relay = target->flags == TPROXY_TARGET_RELAY;
	char pin_dir[SHELL_QUOTE_LEN(PATH_MAX)];

	shell_quote(d->pin_dir, pin_dir, sizeof(pin_dir));
	switch (target_state_of(target)) {
	case TARGET_REPLACED:
		doctor_add(
			d, DOCTOR_ERROR, "scope",
			relay ? "the relay cgroup '%s' was created again: relays there are neither exempt nor told destinations"
			      : "'%s' was created again: its processes are not redirected, whatever the policy",
			target->path);
		doctor_fix(d, "tproxy-load --again --pin-dir %s", pin_dir);
		return false;
	case TARGET_ABSENT:
		doctor_add(
			d, DOCTOR_WARNING, "scope",
			relay ? "the relay cgroup '%s' does not exist: a new one at this path will not be the relay cgroup"
			      : "'%s' does not exist: processes of a new one at this path will not be redirected",
			target->path);
		doctor_fix(
			d,
			"name a slice instead, or see SERVICES in tproxy-load(8); once it exists: "
			"tproxy-load --again --pin-dir %s",
			pin_dir);
		return false;
	case TARGET_UNKNOWN:
		doctor_add(
			d, DOCTOR_INFO, "scope",
			"'%s' is not visible here: whether it is the cgroup of the load is unknown",
			target->path);
		doctor_fix(d, "run this as root, outside of containers");
		return false;
	default:
		return true;
	}
}

void doctor_scopes(struct doctor *d)
{
	_cleanup_free_ struct tproxy_target *list = NULL;
	bool good = true;
	size_t n = 0, i;

	if (!d->privileged || !d->has_cgroup2 || !d->loaded ||
	    target_list_read_pinned(d->pin_dir, &list, &n) < 0)
		return;
	for (i = 0; i < n; i++)
		good &= check_target(d, &list[i]);
	if (good && n > 0)
		doctor_add(d, DOCTOR_OK, "scope", "all %zu cgroups are those of the load", n);
}
