// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load. See again.h. */
#include "again.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"
#include "options.h"
#include "state/maps.h"
#include "state/policy.h"
#include "state/target_list.h"
#include "state/traffic.h"
#include "tproxy_abi.h"
#include "util.h"

static int read_policy(const char *pin_dir, struct load_options *o)
{
	struct tproxy_policy policy;
	struct stat st;
	int r;

	r = policy_read_pinned(pin_dir, &policy);
	if (r == 0 && stat(pin_dir, &st) < 0)
		r = -errno;
	if (r < 0) {
		log_err("cannot read the policy in '%s': %s", pin_dir, strerror(-r));
		return r;
	}
	o->fail_closed = policy.flags & TPROXY_FAIL_CLOSED;
	o->include_loopback = policy.flags & TPROXY_INCLUDE_LOOPBACK;
	o->relay_gid = st.st_gid;
	o->traffic = traffic_state(pin_dir) == TRAFFIC_STAYS;
	return 0;
}

static int add_path(struct load_options *o, const char *path)
{
	o->cgroups[o->n_cgroups] = strdup(path);
	if (!o->cgroups[o->n_cgroups])
		return -ENOMEM;
	o->n_cgroups++;
	return 0;
}

static int add_targets(const struct load_options *given, const struct tproxy_target *list, size_t n,
		       struct load_options *o)
{
	size_t i;
	int r = 0;

	o->cgroups = calloc(n + given->n_cgroups + 1, sizeof(*o->cgroups));
	if (!o->cgroups)
		return -ENOMEM;
	for (i = 0; i < n && r == 0; i++) {
		if (list[i].flags == TPROXY_TARGET_SCOPE)
			r = add_path(o, list[i].path);
		else
			snprintf(o->relay_cgroup, sizeof(o->relay_cgroup), "%s", list[i].path);
	}
	for (i = 0; i < given->n_cgroups && r == 0; i++)
		r = add_path(o, given->cgroups[i]);
	return r;
}

/* All interfaces of a load have the same mode and network namespace. */
static int add_interfaces(struct load_options *o)
{
	_cleanup_free_ struct tproxy_target *list = NULL;
	size_t n = 0, i;
	int r;

	r = target_list_read_xdp_pinned(o->pin_dir, &list, &n);
	if (r < 0 || n == 0)
		return r;
	o->xdp = calloc(n, sizeof(*o->xdp));
	if (!o->xdp)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		snprintf(o->xdp[i], sizeof(o->xdp[i]), "%.*s", IFNAMSIZ - 1, list[i].path);
	o->n_xdp = n;
	o->xdp_mode = (enum tproxy_xdp_mode)list[0].xdp_mode;
	o->xdp_netns = list[0].cgroup_id;
	return 0;
}

static int read_targets(const struct load_options *given, struct load_options *o)
{
	_cleanup_free_ struct tproxy_target *list = NULL;
	size_t n = 0;
	int r;

	r = target_list_read_pinned(given->pin_dir, &list, &n);
	if (r == 0 && n == 0)
		r = -ENODATA;
	if (r == 0)
		r = add_targets(given, list, n, o);
	if (r == 0)
		r = add_interfaces(o);
	if (r < 0)
		log_err("cannot read the cgroups of the previous load from '%s/map_targets': %s; load again with all options",
			given->pin_dir, strerror(-r));
	return r;
}

int again_options(const struct load_options *given, struct load_options *ret_options)
{
	struct load_options o = {
		.mode = OPTIONS_LOAD,
		.again = true,
		.force = given->force,
		.verbose = given->verbose,
	};
	uint32_t version;
	int r;

	r = maps_check_abi(given->pin_dir, &version);
	if (r == -ENOENT)
		log_err("nothing is loaded in '%s'; give --cgroup or --all instead of --again",
			given->pin_dir);
	if (r < 0)
		return r;
	strcpy(o.pin_dir, given->pin_dir);
	r = read_policy(given->pin_dir, &o);
	if (r == 0)
		r = read_targets(given, &o);
	if (r < 0)
		load_options_finish(&o);
	else
		*ret_options = o;
	return r;
}
