// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the targets of a load, see targets.h.
 *
 * All cgroups are opened before the load changes anything, so that a bad path is reported in time.
 * A scope below another one is dropped, because its programs would run twice. A scope within the
 * relay cgroup is refused, because nothing is redirected there. With --again a scope may be absent:
 * its path is kept, and the next load with --again attaches to it.
 *
 * Each hook (objects.h) belongs at the scopes, at the relay cgroup, or at both. Without
 * --relay-cgroup relays run in the scopes, and their hooks are attached there. A hook for both is
 * not attached at a relay cgroup that lies within a scope, which covers it.
 *
 * A load replaces map_targets as a whole. state/target_list.h reads it.
 */
#include "targets.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "objects.h"
#include "options.h"
#include "state/on_demand.h"
#include "tproxy_abi.h"
#include "util.h"

static int open_target(const char *option, const char *path, struct cgroup *ret_cgroup)
{
	int r = cgroup_open(path, ret_cgroup);
	_cleanup_free_ char *root = NULL;

	if (r == -EMEDIUMTYPE && cgroup_root(&root) == 0)
		log_err("%s '%s' is a directory, but not of the cgroup2 file system, which is at '%s'",
			option, path, root);
	else if (r == -ENOENT && cgroup_root(&root) == 0)
		log_err("%s '%s': %s; paths begin at '%s'", option, path, strerror(-r), root);
	else if (r < 0)
		log_err("%s '%s'%s %s", option, path, r == -EXDEV ? "" : ":", cgroup_strerror(r));
	if (r == 0 && strlen(ret_cgroup->path) >= sizeof((struct tproxy_target){}.path)) {
		log_err("%s '%s': %s", option, path, strerror(ENAMETOOLONG));
		cgroup_close(ret_cgroup);
		return -ENAMETOOLONG;
	}
	return r;
}

/*
 * Drops scopes that lie below another scope, or are given twice. If the programs were attached at
 * both, they would run twice for each connection.
 */
static void drop_covered(const struct load_options *o, struct targets *t)
{
	char where[LOAD_OPTIONS_WHERE_LEN];
	size_t i, j, kept = 0;
	bool same = false;

	for (i = 0; i < t->n_scopes; i++) {
		for (j = 0; j < t->n_scopes; j++) {
			if (i == j || t->scopes[j].fd < 0)
				continue;
			same = t->scopes[i].id == t->scopes[j].id;
			if (same ? j < i : cgroup_is_within(&t->scopes[i], &t->scopes[j]))
				break;
		}
		if (j == t->n_scopes)
			continue;
		load_options_where(o, "cgroup", t->lines[i], where);
		if (same)
			log_info("%s '%s' is given twice", where, t->scopes[i].path);
		else
			log_info("%s '%s' is covered by '%s'", where, t->scopes[i].path,
				 t->scopes[j].path);
		cgroup_close(&t->scopes[i]);
	}
	for (i = 0; i < t->n_scopes; i++) {
		if (t->scopes[i].fd < 0)
			continue;
		t->lines[kept] = t->lines[i];
		t->scopes[kept++] = t->scopes[i];
	}
	t->n_scopes = kept;
}

/*
 * Opens one scope. With --again a missing cgroup is no error: it has no processes, and a later load
 * with --again attaches to it.
 */
static int open_scope(const struct load_options *o, const char *path, unsigned int line,
		      struct targets *t)
{
	char where[LOAD_OPTIONS_WHERE_LEN];
	struct cgroup *scope = &t->scopes[t->n_scopes];
	int r;

	*scope = (struct cgroup)CGROUP_NULL;
	if (o->again && cgroup_open(path, scope) == -ENOENT) {
		t->absent[t->n_absent] = strdup(path);
		if (!t->absent[t->n_absent]) {
			log_err("out of memory for the cgroups");
			return -ENOMEM;
		}
		t->n_absent++;
		return 0;
	}
	if (scope->fd < 0) {
		r = open_target(load_options_where(o, "cgroup", line, where), path, scope);
		if (r < 0)
			return r;
	}
	t->lines[t->n_scopes++] = line;
	return 0;
}

/* Reports all scopes that do not exist, but another error only once: it may hold for each. */
static int open_scopes(const struct load_options *o, const char *root, struct targets *t)
{
	size_t n = o->all ? 1 : o->n_cgroups, i;
	unsigned int line;
	int r = 0, one;

	if (n > TPROXY_TARGETS_MAX - 1 - o->n_xdp) {
		log_err("%zu cgroups are given, the maximum is %zu", n,
			TPROXY_TARGETS_MAX - 1 - o->n_xdp);
		return -E2BIG;
	}
	t->scopes = calloc(n + 1, sizeof(*t->scopes));
	t->absent = calloc(n + 1, sizeof(*t->absent));
	t->lines = calloc(n + 1, sizeof(*t->lines));
	if (!t->scopes || !t->absent || !t->lines) {
		log_err("out of memory");
		return -ENOMEM;
	}
	for (i = 0; i < n; i++) {
		line = o->all || !o->cgroup_lines ? 0 : o->cgroup_lines[i];
		one = open_scope(o, o->all ? root : o->cgroups[i], line, t);
		if (one < 0 && one != -ENOENT)
			return one;
		r = r < 0 ? r : one;
	}
	if (r == 0)
		drop_covered(o, t);
	return r;
}

int targets_open(const struct load_options *o, struct targets *t)
{
	_cleanup_free_ char *root = NULL;
	char where[LOAD_OPTIONS_WHERE_LEN];
	size_t i;
	int r, one;

	r = cgroup_root(&root);
	if (r < 0) {
		log_err("no cgroup2 file system is mounted; mount one with 'mount -t cgroup2 cgroup2 DIR' (%s)",
			strerror(-r));
		return r;
	}
	r = open_scopes(o, root, t);
	if (!*o->relay_cgroup || (r < 0 && r != -ENOENT))
		return r;
	one = open_target(load_options_where(o, "relay-cgroup", o->relay_cgroup_line, where),
			  o->relay_cgroup, &t->relay);
	r = r < 0 ? r : one;
	if (r < 0)
		return r;
	for (i = 0; i < t->n_scopes; i++) {
		if (!cgroup_is_within(&t->scopes[i], &t->relay))
			continue;
		log_err("%s '%s' is in the relay cgroup '%s', where nothing is redirected",
			load_options_where(o, "cgroup", t->lines[i], where), t->scopes[i].path,
			t->relay.path);
		return -EINVAL;
	}
	return 0;
}

void targets_close(struct targets *t)
{
	size_t i;

	for (i = 0; i < t->n_scopes; i++)
		cgroup_close(&t->scopes[i]);
	for (i = 0; i < t->n_absent; i++)
		free(t->absent[i]);
	cgroup_close(&t->relay);
	free(t->scopes);
	free(t->absent);
	free(t->lines);
	*t = (struct targets)TARGETS_NULL;
}

static bool in_scope(const struct targets *t, const struct cgroup *cgroup)
{
	size_t i;

	for (i = 0; i < t->n_scopes; i++) {
		if (cgroup_is_within(cgroup, &t->scopes[i]))
			return true;
	}
	return false;
}

/* Without --relay-cgroup relays run where clients do. */
bool targets_want_scopes(const struct targets *t, const struct hook *hook)
{
	if (!on_demand_wants(t->needs, hook))
		return false;
	return hook->scope || (hook->relay && t->relay.fd < 0);
}

bool targets_want_relay(const struct targets *t, const struct hook *hook)
{
	if (!on_demand_wants(t->needs, hook))
		return false;
	return hook->relay && t->relay.fd >= 0 && !(hook->scope && in_scope(t, &t->relay));
}

bool targets_serve(const struct targets *t, const struct cgroup *cgroup)
{
	return t->relay.fd >= 0 ? cgroup_is_within(cgroup, &t->relay) : in_scope(t, cgroup);
}

static int write_one(int map_fd, __u32 key, __u64 id, __u32 flags, const char *path)
{
	struct tproxy_target target = { .cgroup_id = id, .flags = flags };

	snprintf(target.path, sizeof(target.path), "%s", path);
	return bpf_map_update_elem(map_fd, &key, &target, BPF_ANY);
}

int targets_write(int map_fd, const struct targets *t, const struct tproxy_target *xdp,
		  size_t n_xdp)
{
	__u32 key = 0;
	size_t i;
	int r = 0;

	for (i = 0; i < t->n_scopes && r == 0; i++)
		r = write_one(map_fd, key++, t->scopes[i].id, TPROXY_TARGET_SCOPE,
			      t->scopes[i].path);
	for (i = 0; i < t->n_absent && r == 0; i++)
		r = write_one(map_fd, key++, 0, TPROXY_TARGET_SCOPE, t->absent[i]);
	if (t->relay.fd >= 0 && r == 0)
		r = write_one(map_fd, key++, t->relay.id, TPROXY_TARGET_RELAY, t->relay.path);
	for (i = 0; i < n_xdp && r == 0; i++, key++)
		r = bpf_map_update_elem(map_fd, &key, &xdp[i], BPF_ANY);
	for (; key < TPROXY_TARGETS_MAX && r == 0; key++) {
		r = bpf_map_delete_elem(map_fd, &key);
		if (r == -ENOENT)
			return 0;
	}
	return r;
}
