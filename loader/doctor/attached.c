// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: what is attached.
 *
 * First tproxy's own links. Each pinned link must be attached and run the pinned program, and no
 * hook may be missing. scopes.c reports links whose cgroup was removed. A link of a cgroup that is
 * no longer in scope is kept while it serves connections, which is no fault.
 *
 * Then foreign programs on the same hooks (foreign_programs.c). The links tell which programs are
 * tproxy's. If they cannot be read, nothing is checked.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"
#include "foreign_programs.h"
#include "host/cgroup.h"
#include "objects.h"
#include "state/on_demand.h"
#include "state/pinned_prog.h"
#include "state/pins.h"
#include "state/target_list.h"
#include "tproxy_abi.h"

struct check {
	struct doctor *d;
	struct pinned_links links;
	size_t n_gone;		       /* whose cgroup was removed */
	size_t n_kept;		       /* not wanted by the last load, but in use */
	struct tproxy_target *targets; /* cgroups of the last load; NULL: unknown */
	size_t n_targets;
	unsigned int needs; /* see state/on_demand.h */
	bool good;
};

static void cgroup_name(uint64_t id, char *buf, size_t size)
{
	_cleanup_free_ char *path = NULL;

	if (cgroup_path_by_id(id, &path) == 0)
		snprintf(buf, size, "'%s'", path);
	else
		snprintf(buf, size, "the cgroup %" PRIu64 ", which is gone", id);
}

static bool is_gone(uint64_t cgroup_id)
{
	_cleanup_free_ char *path = NULL;

	return cgroup_path_by_id(cgroup_id, &path) == -ESTALE;
}

static void read_targets(struct check *check)
{
	if (target_list_read_pinned(check->d->pin_dir, &check->targets, &check->n_targets) < 0)
		check->n_targets = 0;
}

/*
 * Returns true if the last load was for a cgroup of this id, or if its cgroups are unknown. A
 * cgroup that was dropped keeps the links that serve redirected connections while there are any.
 * They run the programs of the previous load.
 */
static bool is_wanted(const struct check *check, uint64_t cgroup_id)
{
	size_t i;

	for (i = 0; i < check->n_targets; i++) {
		if (check->targets[i].cgroup_id == cgroup_id)
			return true;
	}
	return check->n_targets == 0;
}

/*
 * Some hooks are attached only while rules or the block list need them. A process that replaced
 * these and died before it detached the hooks leaves them attached, which costs time for each
 * packet of the scope.
 */
static void report_needless(struct check *check, const struct pinned_link *link, const char *cgroup)
{
	const struct hook *hook = hook_by_name(link->hook);

	doctor_add(check->d, DOCTOR_WARNING, "links",
		   hook->need == HOOK_NEED_UDP
			   ? "%s is attached to %s, but no rule in force is about UDP"
			   : "%s is attached to %s, but the block list is empty",
		   link->hook, cgroup);
	doctor_fix(check->d, "%s", doctor_fix_load(check->d));
	check->good = false;
}

static bool is_needless(const struct check *check, const struct pinned_link *link)
{
	const struct hook *hook = hook_by_name(link->hook);

	return hook && !on_demand_wants(check->needs, hook);
}

static void report_kept(const struct check *check)
{
	if (!check->n_kept)
		return;
	doctor_add(
		check->d, DOCTOR_INFO, "links",
		"%zu of cgroups that are no longer in scope serve running connections; a tproxy-load after these have ended removes them",
		check->n_kept);
}

static void check_link(struct check *check, const struct pinned_link *link)
{
	struct doctor *d = check->d;
	char cgroup[PATH_MAX + 2];
	__u32 pinned;

	if (is_gone(link->cgroup_id)) {
		/*
		 * doctor_scopes() reports a removed cgroup, once for all hooks. While there are
		 * sockets of that cgroup, the link is still attached and serves them.
		 */
		check->n_gone++;
		return;
	}
	if (link->attached && !is_wanted(check, link->cgroup_id)) {
		check->n_kept++;
		return;
	}
	cgroup_name(link->cgroup_id, cgroup, sizeof(cgroup));
	if (!link->attached) {
		doctor_add(d, DOCTOR_ERROR, "links", "%s is no longer attached to %s", link->hook,
			   cgroup);
		doctor_fix(d, "%s", doctor_fix_load(d));
		check->good = false;
		return;
	}
	if (is_needless(check, link)) {
		report_needless(check, link, cgroup);
		return;
	}
	pinned = pinned_prog_id(d->pin_dir, link->hook);
	if (pinned == link->prog_id)
		return;
	doctor_add(d, DOCTOR_ERROR, "links",
		   "%s at %s runs program %u, but program %u is pinned: an upgrade did not finish",
		   link->hook, cgroup, link->prog_id, pinned);
	doctor_fix(d, "%s", doctor_fix_load(d));
	check->good = false;
}

static int collect_link(struct pins *pins, const char *name, void *data)
{
	struct check *check = data;
	struct pinned_link *grown, link;
	int r;

	r = pinned_link_read(pins, name, &link);
	if (r == -EINVAL)
		return 0;
	if (r < 0) {
		doctor_add(check->d, DOCTOR_ERROR, "links", "cannot read '%s/%s': %s", pins->path,
			   name, strerror(-r));
		doctor_fix(check->d, "%s", doctor_fix_load(check->d));
		check->good = false;
		return 0;
	}
	grown = reallocarray(check->links.list, check->links.n + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	check->links.list = grown;
	check->links.list[check->links.n++] = link;
	return 0;
}

/* Returns true if this hook has to be attached now, at scopes or where relays run. */
static bool is_required(const struct check *check, const struct hook *hook)
{
	return hook_is_attached(hook) && on_demand_wants(check->needs, hook);
}

/*
 * All hooks that serve a redirected connection must be attached where connect4 is, and the hooks of
 * UDP too if a rule is about UDP. Hooks of relays must be attached somewhere.
 */
static void check_complete(struct check *check)
{
	struct doctor *d = check->d;
	char cgroup[PATH_MAX + 2];
	bool scope = false;
	size_t i, j;

	for (i = 0; i < check->links.n; i++) {
		if (strcmp(check->links.list[i].hook, "connect4") != 0)
			continue;
		scope = true;
		for (j = 0; j < _HOOK_MAX; j++) {
			if (!hooks[j].scope || !is_required(check, &hooks[j]) ||
			    pinned_links_have(&check->links, hooks[j].name,
					      check->links.list[i].cgroup_id))
				continue;
			cgroup_name(check->links.list[i].cgroup_id, cgroup, sizeof(cgroup));
			doctor_add(d, DOCTOR_ERROR, "links", "%s is missing at %s", hooks[j].name,
				   cgroup);
			doctor_fix(d, "%s", doctor_fix_load(d));
			check->good = false;
		}
	}
	for (j = 0; j < _HOOK_MAX; j++) {
		if (pinned_links_have(&check->links, hooks[j].name, 0) ||
		    (scope && hooks[j].scope) || !is_required(check, &hooks[j]))
			continue;
		doctor_add(d, DOCTOR_ERROR, "links", "%s is not attached anywhere", hooks[j].name);
		doctor_fix(d, "%s", doctor_fix_load(d));
		check->good = false;
	}
}

static void check_links(struct check *check)
{
	struct pins pins = { .path = check->d->pin_dir, .fd = -1 };
	size_t i;

	if (pins_for_each(&pins, collect_link, check) < 0)
		return;
	read_targets(check);
	check->needs = on_demand_needs(check->d->pin_dir);
	for (i = 0; i < check->links.n; i++)
		check_link(check, &check->links.list[i]);
	report_kept(check);
	check_complete(check);
	if (check->good)
		doctor_add(check->d, DOCTOR_OK, "links", "all %zu are attached",
			   check->links.n - check->n_gone - check->n_kept);
}

void doctor_attached(struct doctor *d)
{
	struct check check = { .d = d, .good = true };

	/* Without the links tproxy's programs look like foreign ones. */
	if (!d->privileged || !d->has_cgroup2 || d->read_only)
		return;
	if (d->loaded)
		check_links(&check);
	foreign_programs_report(d, &check.links);
	free(check.targets);
	free(check.links.list);
}
