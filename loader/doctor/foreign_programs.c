// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: foreign programs on the hooks of tproxy, at its cgroups and above them. They
 * run before or after tproxy's and may deny or change what it sees, so each is a warning. A program
 * that was attached exclusively, and so keeps tproxy's out, is an error. So is one that tproxy's
 * keeps from running (state/foreign.c). Each program is reported once for its cgroup and hook.
 */
#include "foreign_programs.h"

#include <bpf/libbpf.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "doctor.h"
#include "host/cgroup.h"
#include "host/cgroup_programs.h"
#include "objects.h"
#include "quote.h"
#include "state/foreign.h"

/* How many levels of cgroups are visited. */
#define LEVELS_MAX 64

/* Programs that were reported already: one above two of tproxy's cgroups is reported once. */
struct seen {
	struct {
		__u32 prog_id;
		enum bpf_attach_type type;
		uint64_t cgroup_id;
	} * entries;
	size_t n;
};

bool pinned_links_have(const struct pinned_links *links, const char *hook, uint64_t cgroup_id)
{
	size_t i;

	for (i = 0; i < links->n; i++) {
		if (strcmp(links->list[i].hook, hook) == 0 &&
		    (!cgroup_id || links->list[i].cgroup_id == cgroup_id))
			return true;
	}
	return false;
}

static bool is_ours(const struct pinned_links *links, __u32 prog_id)
{
	size_t i;

	for (i = 0; i < links->n; i++) {
		if (links->list[i].prog_id == prog_id)
			return true;
	}
	return false;
}

/* Returns true the first time. */
static bool first_time(struct seen *seen, __u32 prog_id, enum bpf_attach_type type,
		       uint64_t cgroup_id)
{
	void *grown;
	size_t i;

	for (i = 0; i < seen->n; i++) {
		if (seen->entries[i].prog_id == prog_id && seen->entries[i].type == type &&
		    seen->entries[i].cgroup_id == cgroup_id)
			return false;
	}
	grown = reallocarray(seen->entries, seen->n + 1, sizeof(*seen->entries));
	if (!grown)
		return true;
	seen->entries = grown;
	seen->entries[seen->n].prog_id = prog_id;
	seen->entries[seen->n].type = type;
	seen->entries[seen->n++].cgroup_id = cgroup_id;
	return true;
}

/* Programs of a cgroup run before those of the cgroups above it. */
static const char *how_beside(const struct hook *hook, bool above)
{
	if (above && strncmp(hook->name, "connect", 7) == 0)
		return " beside tproxy's: it runs after them and sees the relay's address instead of a redirected connection's destination";
	if (strcmp(hook->name, "sockops") == 0)
		return " beside tproxy's: if it changes the callback flags of a connection, or has a timeout or reply of its own for a SYN, an honest connect() fails up to two minutes later than it should";
	return " beside tproxy's";
}

static void report_foreign(struct doctor *d, const struct hook *hook, __u32 prog_id,
			   const char *path, bool above, bool in_the_way)
{
	char name[BPF_OBJ_NAME_LEN] = "?", quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	cgroup_programs_name(prog_id, name);
	doctor_add(d, in_the_way ? DOCTOR_ERROR : DOCTOR_WARNING, "foreign",
		   "program %u, '%.*s', is on %s at '%s'%s", prog_id, BPF_OBJ_NAME_LEN, name,
		   hook->name, path,
		   in_the_way ? ", attached so that tproxy's cannot be attached"
			      : how_beside(hook, above));
	if (in_the_way)
		doctor_fix(d,
			   "ask its owner to attach it with BPF_F_ALLOW_MULTI, or detach it: "
			   "bpftool cgroup detach %s %s id %u",
			   shell_quote(path, quoted, sizeof(quoted)),
			   libbpf_bpf_attach_type_str(hook->attach_type), prog_id);
	else
		doctor_fix(d, "examine it: bpftool prog show id %u", prog_id);
}

/*
 * Returns true if these programs keep tproxy's from being attached. The kernel's rule is in
 * kernel/bpf/cgroup.c, hierarchy_allows_attach(). Programs of the same cgroup must have been
 * attached with BPF_F_ALLOW_MULTI, as tproxy's are. Above it the nearest cgroup that has programs
 * decides (*decided): they must have been attached with that flag or with BPF_F_ALLOW_OVERRIDE.
 */
static bool keeps_ours_out(const struct cgroup_programs *here, int level, bool *decided)
{
	if (here->n == 0 || (level > 0 && *decided))
		return false;
	if (level > 0)
		*decided = true;
	return !(here->flags &
		 (level > 0 ? BPF_F_ALLOW_MULTI | BPF_F_ALLOW_OVERRIDE : BPF_F_ALLOW_MULTI));
}

/* Checks one hook, at a cgroup and at each above it. */
static void check_foreign_at(struct doctor *d, const struct pinned_links *links,
			     const struct cgroup *target, const char *root, const struct hook *hook,
			     struct seen *seen)
{
	const bool attached = pinned_links_have(links, hook->name, target->id);
	bool decided = false, in_the_way;
	struct cgroup_programs effective, here;
	char path[PATH_MAX];
	int level;
	__u32 i;

	if (cgroup_programs_query_at(target->path, hook->attach_type, BPF_F_QUERY_EFFECTIVE,
				     &effective) < 0)
		return;
	snprintf(path, sizeof(path), "%s", target->path);
	for (level = 0; level < LEVELS_MAX; level++) {
		struct stat st;

		if (cgroup_programs_query_at(path, hook->attach_type, 0, &here) < 0 ||
		    stat(path, &st) < 0)
			return;
		in_the_way = keeps_ours_out(&here, level, &decided) && !attached;
		for (i = 0; i < here.n; i++) {
			if (!is_ours(links, here.id[i]) &&
			    (in_the_way || cgroup_programs_have(&effective, here.id[i])) &&
			    first_time(seen, here.id[i], hook->attach_type, st.st_ino))
				report_foreign(d, hook, here.id[i], path, level > 0, in_the_way);
		}
		if (strcmp(path, root) == 0)
			return;
		dirname(path);
	}
}

/* Reports a program above the cgroup that does not run because of tproxy's, or would not run. */
static void check_cancelled(struct doctor *d, const struct pinned_links *links,
			    const struct cgroup *target, const struct hook *hook, struct seen *seen)
{
	const bool attached = pinned_links_have(links, hook->name, target->id);
	char text[FOREIGN_TEXT_LEN], command[FOREIGN_FIX_LEN];
	struct foreign foreign;
	bool here = false;
	struct stat st;
	__u32 own = 0;
	size_t i;

	for (i = 0; i < links->n; i++) {
		if (links->list[i].cgroup_id != target->id)
			continue;
		here = true;
		if (strcmp(links->list[i].hook, hook->name) == 0)
			own = links->list[i].prog_id;
	}
	/* This hook will not be attached where only other hooks of tproxy are. */
	if (here && !attached)
		return;
	if (foreign_find(target, hook, own, &foreign) <= 0)
		return;
	if (stat(foreign.cgroup, &st) == 0)
		first_time(seen, foreign.prog_id, hook->attach_type, st.st_ino);
	foreign_describe(&foreign, target, attached, text);
	doctor_add(d, DOCTOR_ERROR, "foreign", "%s", text);
	foreign_fix(&foreign, command);
	doctor_fix(d, "%s", command);
}

static void check_foreign(struct doctor *d, const struct pinned_links *links, const char *path,
			  struct seen *seen)
{
	struct cgroup target = CGROUP_NULL;
	_cleanup_free_ char *root = NULL;
	size_t i;
	int r;

	r = cgroup_open(path, &target);
	if (r == 0)
		r = cgroup_root(&root);
	if (r < 0) {
		doctor_add(d, DOCTOR_ERROR, "cgroup", "'%s': %s", path, cgroup_strerror(r));
		return;
	}
	for (i = 0; i < _HOOK_MAX; i++) {
		if (hook_is_attached(&hooks[i]) &&
		    (hooks[i].need == HOOK_NEED_NONE ||
		     pinned_links_have(links, hooks[i].name, target.id)))
			check_cancelled(d, links, &target, &hooks[i], seen);
	}
	/*
	 * Programs on bind, the hook of the sweep, and on the hooks of UDP do not affect connect().
	 * policies.c and filters.c report them.
	 */
	for (i = 0; i < _HOOK_MAX; i++) {
		if (hook_is_attached(&hooks[i]) && hooks[i].need == HOOK_NEED_NONE &&
		    i != HOOK_SWEEP)
			check_foreign_at(d, links, &target, root, &hooks[i], seen);
	}
	cgroup_close(&target);
}

void foreign_programs_report(struct doctor *d, const struct pinned_links *links)
{
	_cleanup_free_ char *root = NULL;
	struct seen seen = {};
	size_t i, j;

	if (d->cgroup)
		check_foreign(d, links, d->cgroup, &seen);
	else if (links->n == 0 && cgroup_root(&root) == 0)
		check_foreign(d, links, root, &seen);
	for (i = 0; i < links->n; i++) {
		_cleanup_free_ char *path = NULL;

		for (j = 0; j < i && links->list[j].cgroup_id != links->list[i].cgroup_id; j++)
			;
		/* Reports each cgroup once. A removed cgroup was reported with its links. */
		if (j == i && cgroup_path_by_id(links->list[i].cgroup_id, &path) == 0)
			check_foreign(d, links, path, &seen);
	}
	if (seen.n == 0)
		doctor_add(d, DOCTOR_OK, "foreign", "no other programs are on tproxy's hooks");
	free(seen.entries);
}
