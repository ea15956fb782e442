// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run: the programs at the command's cgroup, see run_attach.h.
 *
 * They are attached without a link: a program that is attached so belongs to the cgroup and goes
 * with it. So nothing is pinned, no process has to hold anything, and the processes that the
 * command leaves behind stay in scope as long as they are there.
 */
#include "run_attach.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "host/cgroup.h"
#include "log.h"
#include "objects.h"
#include "state/maps.h"
#include "state/policy.h"
#include "tproxy_abi.h"
#include "util.h"

static int attach(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int n, r;

	n = snprintf(path, sizeof(path), "%s/prog_%s", pin_dir, hook->name);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	r = fd < 0 ? fd : bpf_prog_attach(fd, cgroup->fd, hook->attach_type, BPF_F_ALLOW_MULTI);
	if (r < 0)
		log_err("run: cannot attach '%s' to '%s': %s%s", path, cgroup->path, strerror(-r),
			r == -EPERM && fd >= 0
				? "; 'tproxyctl doctor --cgroup' names the program that prevents it"
				: "");
	return r;
}

int run_attach_pinned(const char *pin_dir, const struct cgroup *cgroup)
{
	struct tproxy_policy policy;
	uint32_t version;
	size_t i;
	int r;

	r = maps_check_abi(pin_dir, &version);
	if (r == -ENOENT)
		log_err("run: " MAPS_NOT_LOADED, pin_dir);
	if (r < 0)
		return r;
	r = policy_read_pinned(pin_dir, &policy);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_POLICY, r);
	for (i = 0; i < _HOOK_MAX && r == 0; i++) {
		/* Without a relay cgroup relays run where clients do. */
		if (hooks[i].scope || (hooks[i].relay && !policy.relay_cgroup_id))
			r = attach(pin_dir, &hooks[i], cgroup);
	}
	return r;
}
