// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the rules in force. A rule that names a cgroup by path holds the id that the
 * cgroup had when the rules were loaded. If the cgroup is removed, and perhaps created again, the
 * rule no longer applies to any process. Rules with patterns of names are not affected.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "doctor.h"
#include "host/cgroup.h"
#include "quote.h"
#include "state/inner_maps.h"
#include "state/rules_view.h"
#include "state/target_list.h"
#include "tproxy_abi.h"
#include "util.h"

void doctor_fix_rules(struct doctor *d, const struct tproxy_rules *rules, const char *before)
{
	char pin_dir[SHELL_QUOTE_LEN(PATH_MAX)], file[SHELL_QUOTE_LEN(PATH_MAX)];

	doctor_fix(d, "%stproxyctl rules load %s --pin-dir %s", before,
		   *rules->file ? shell_quote(rules->file, file, sizeof(file)) : "FILE",
		   shell_quote(d->pin_dir, pin_dir, sizeof(pin_dir)));
}

/* Returns the rule that has this cgroup test, or NULL. @exceptions: also one after unless. */
static const struct rules_view_rule *find_rule(const struct rules_view *view, size_t test,
					       bool exceptions)
{
	const struct tproxy_rules *rules = &view->rules;
	size_t i;

	for (i = 0; i < rules->n_rows && i < TPROXY_RULES_MAX; i++) {
		const struct tproxy_rule *row = &rules->rows[i];

		if (row->conditions & TPROXY_RULE_CGROUP && row->cgroup == test &&
		    (exceptions || row->action != TPROXY_RULE_SKIP) && row->group < view->n)
			return &view->list[row->group];
	}
	return NULL;
}

/*
 * A load with other cgroups may leave that of a rule out. Returns true if there is no finding.
 * @rule: NULL if the cgroup is only in exceptions, which may name any.
 */
static bool check_scope(struct doctor *d, const struct rules_view_rule *rule, char *path)
{
	const struct cgroup cgroup = { .path = path, .fd = -1 };
	_cleanup_free_ struct tproxy_target *list = NULL;
	size_t n = 0, i;

	if (!rule || target_list_read_pinned(d->pin_dir, &list, &n) < 0)
		return true;
	for (i = 0; i < n; i++) {
		const struct cgroup scope = { .path = list[i].path, .fd = -1 };

		if (list[i].flags == TPROXY_TARGET_SCOPE &&
		    (cgroup_is_within(&cgroup, &scope) || cgroup_is_within(&scope, &cgroup)))
			return true;
	}
	doctor_add(
		d, DOCTOR_WARNING, "rules",
		"the cgroup of '%s', '%s', is outside of all cgroups of tproxy-load: the rule applies to no process",
		rule->text.text, path);
	doctor_fix(d, "load that cgroup too, with --cgroup; or remove the rule");
	return false;
}

/* Returns true if there is no finding. */
static bool check_cgroup(struct doctor *d, const struct rules_view *view, size_t test)
{
	const uint64_t id = view->rules.cgroup_tests[test].cgroup_id;
	const struct rules_view_rule *rule = find_rule(view, test, /* exceptions= */ true);
	_cleanup_free_ char *path = NULL;
	int r;

	if (!id || !rule)
		return true;
	r = cgroup_path_by_id(id, &path);
	if (r == 0)
		return check_scope(d, find_rule(view, test, /* exceptions= */ false), path);
	if (r != -ESTALE) {
		doctor_add(d, DOCTOR_INFO, "rules",
			   "the cgroup of '%s' is not visible here: whether it exists is unknown",
			   rule->text.text);
		doctor_fix(d, "run this as root, outside of containers");
		return false;
	}
	doctor_add(
		d, DOCTOR_ERROR, "rules",
		"the cgroup of '%s' was removed since the rules were loaded: the rule applies to no process, also not in a new cgroup at the same path",
		rule->text.text);
	doctor_fix_rules(d, &view->rules,
			 "for a cgroup that comes and goes write name:NAME into the file; then: ");
	return false;
}

/* Checks the pins, from which users other than root read the rules. */
static bool check_pin(struct doctor *d, const struct rules_view *view)
{
	_cleanup_close_ int rules_fd = -1, pin_fd = -1;
	uint32_t used, pinned;

	if (bpffs_open_map(d->pin_dir, PINNED_RULES, /* writable= */ false, &rules_fd) < 0 ||
	    inner_map_id(rules_fd, 0, &used) < 0 ||
	    bpffs_open_map(d->pin_dir, PINNED_RULES_ACTIVE, /* writable= */ false, &pin_fd) < 0 ||
	    bpffs_map_id(pin_fd, &pinned) < 0 || used == pinned)
		return true;
	doctor_add(
		d, DOCTOR_WARNING, "rules",
		"the last load of rules did not finish: generation %u is in force, and users other than root see the previous one",
		view->rules.generation);
	doctor_fix(d, "%s", doctor_fix_load(d));
	return false;
}

static bool check_confirmed(struct doctor *d, const struct rules_view *view)
{
	char pin_dir[SHELL_QUOTE_LEN(PATH_MAX)];

	if (!view->unconfirmed)
		return true;
	shell_quote(d->pin_dir, pin_dir, sizeof(pin_dir));
	doctor_add(
		d, DOCTOR_WARNING, "rules",
		view->abandoned
			? "generation %u was not confirmed, and the command that waited was killed: no process takes it back"
			: "generation %u waits for confirmation, and no other rules can be loaded",
		view->rules.generation);
	doctor_fix(
		d,
		"tproxyctl rules confirm --pin-dir %s; or, to take it back: tproxyctl rules revert --pin-dir %s",
		pin_dir, pin_dir);
	return false;
}

void doctor_rules(struct doctor *d)
{
	_cleanup_(rules_view_finish) struct rules_view view = {};
	bool good;
	size_t i;

	if (!d->privileged || !d->loaded || rules_view_read(d->pin_dir, &view) < 0)
		return;
	good = check_pin(d, &view);
	good &= check_confirmed(d, &view);
	view.rules.file[sizeof(view.rules.file) - 1] = '\0';
	for (i = 0; i < view.rules.n_cgroup_tests && i < TPROXY_CGROUP_TESTS_MAX; i++)
		good &= check_cgroup(d, &view, i);
	if (good && view.rules.generation)
		doctor_add(d, DOCTOR_OK, "rules", "%zu rules of generation %u are in force", view.n,
			   view.rules.generation);
}
