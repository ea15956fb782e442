// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run: an instance for one cgroup, see instance.h.
 *
 * The programs are attached without links. Such a program belongs to the cgroup and goes with it,
 * and the maps go with the programs. So no pin can be left behind and no process has to hold a
 * descriptor. The rules hold until the last process that the command has started ends.
 *
 * The rules are written before anything is attached, and never replaced.
 */
#include "instance.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "list.h"
#include "log.h"
#include "monotonic.h"
#include "objects.h"
#include "programs.h"
#include "rules/rules.h"
#include "state/inner_maps.h"
#include "state/policy.h"
#include "tproxy.skel.h"
#include "tproxy_abi.h"
#include "util.h"

/*
 * The maps of connections and relays, which can be shared. All other maps belong to this instance.
 */
static const enum pinned_map_id shared_maps[] = {
	PINNED_CONFIG,	 PINNED_MARKS,	   PINNED_FAILED,      PINNED_SOCKS, PINNED_PORTS,
	PINNED_CLIENTS,	 PINNED_LISTENERS, PINNED_NEWEST,      PINNED_LOADS, PINNED_SHARES,
	PINNED_STRAYED,	 PINNED_SWEEP,	   PINNED_CAPTURE,     PINNED_FLOWS, PINNED_PENDING,
	PINNED_VERDICTS, PINNED_RINGS,	   PINNED_RING_OWNERS, PINNED_PAIRS,
};

/* Maps that are empty in an instance without relays, or that only the tools read. */
static const enum pinned_map_id unused_maps[] = {
	PINNED_FAILED,	PINNED_SOCKS,	PINNED_PORTS,	 PINNED_LISTENERS, PINNED_NEWEST,
	PINNED_STRAYED, PINNED_PENDING, PINNED_VERDICTS, PINNED_PAIRS,
};

static void tproxy_bpf_destroyp(struct tproxy_bpf **skel)
{
	tproxy_bpf__destroy(*skel);
}

static int share_map(struct tproxy_bpf *skel, const char *dir, enum pinned_map_id id)
{
	const char *name = pinned_maps[id].name;
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int n, r;

	n = snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	r = fd < 0 ? fd : bpf_map__reuse_fd(bpf_object__find_map_by_name(skel->obj, name), fd);
	if (r < 0)
		log_err("cannot use '%s': %s", path, strerror(-r));
	return r;
}

static int share_maps(struct tproxy_bpf *skel, const struct instance_options *o)
{
	size_t i;
	int r = 0;

	if (o->advised_dir)
		return share_map(skel, o->advised_dir, PINNED_MARKS);
	for (i = 0; o->shared_dir && i < ARRAY_SIZE(shared_maps) && r == 0; i++)
		r = share_map(skel, o->shared_dir, shared_maps[i]);
	return r;
}

static void shrink_maps(struct tproxy_bpf *skel)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(unused_maps); i++)
		bpf_map__set_max_entries(
			bpf_object__find_map_by_name(skel->obj, pinned_maps[unused_maps[i]].name),
			1);
}

/*
 * Returns true if the instance needs the hook. It needs the hooks of UDP if a rule is about UDP,
 * and the hooks of relays if a relay may run there.
 */
static bool is_wanted(const struct hook *hook, const struct instance_options *o,
		      const struct tproxy_policy *policy)
{
	if (hook->need == HOOK_NEED_BLOCK || (hook->need == HOOK_NEED_UDP && !o->rules->has_udp))
		return false;
	return hook->scope || (hook->relay && o->shared_dir && !policy->relay_cgroup_id);
}

static int load_object(const struct instance_options *o, const struct tproxy_policy *policy,
		       struct tproxy_bpf *skel)
{
	size_t i;
	int r;

	list_leave_out(skel->obj);
	for (i = 0; i < _HOOK_MAX; i++)
		bpf_program__set_autoload(programs_find(skel->obj, &hooks[i]),
					  is_wanted(&hooks[i], o, policy));
	if (!o->shared_dir)
		shrink_maps(skel);
	r = share_maps(skel, o);
	if (r < 0)
		return r;
	r = tproxy_bpf__load(skel);
	if (r < 0)
		programs_log_rejected(r, "; 'tproxyctl doctor' tells why");
	return r;
}

static int make_policy(const struct instance_options *o, struct tproxy_policy *ret_policy)
{
	struct tproxy_policy policy = {
		.abi_version = TPROXY_ABI_VERSION,
		.loaded_ns = monotonic_kernel_ns(),
	};
	int r;

	if (o->shared_dir) {
		r = policy_read_pinned(o->shared_dir, &policy);
		if (r < 0) {
			log_err("cannot read the policy in '%s': %s", o->shared_dir, strerror(-r));
			return r;
		}
	}
	policy.flags &= ~(__u32)TPROXY_RULES_LOOPBACK;
	/* One that advises looks at these connections too, to take back what it left before. */
	if (o->rules->names_loopback || o->advised_dir)
		policy.flags |= TPROXY_RULES_LOOPBACK;
	policy.flags |= o->fail_closed ? TPROXY_FAIL_CLOSED : 0;
	policy.flags |= o->advised_dir ? TPROXY_ADVISES : 0;
	*ret_policy = policy;
	return 0;
}

/* The rules have no counters: those of a shared directory belong to its own rules. */
static int write_rules(const struct rules_compiled *compiled, struct tproxy_bpf *skel)
{
	_cleanup_free_ struct tproxy_rules *rules = malloc(sizeof(*rules));
	const __u32 key = 0;
	size_t i;
	int r;

	if (!rules)
		return -ENOMEM;
	*rules = compiled->rules;
	rules->generation = 1;
	rules->sets_slot = 0;
	rules->default_counter = TPROXY_NO_RULE;
	for (i = 0; i < rules->n_rows; i++)
		rules->rows[i].counter = TPROXY_NO_RULE;
	r = inner_map_fill(bpf_map__fd(skel->maps.map_sets_active), compiled->prefixes,
			   compiled->bits, compiled->n_prefixes);
	if (r == 0)
		r = bpf_map_update_elem(bpf_map__fd(skel->maps.map_rules_active), &key, rules,
					BPF_ANY);
	return r;
}

int instance_attach_program(int prog_fd, const char *name, int attach_type,
			    const struct cgroup *cgroup)
{
	int r = bpf_prog_attach(prog_fd, cgroup->fd, (enum bpf_attach_type)attach_type,
				BPF_F_ALLOW_MULTI);

	if (r < 0)
		log_err("cannot attach %s to '%s': %s%s", name, cgroup->path, strerror(-r),
			r == -EPERM
				? "; 'tproxyctl doctor --cgroup' names the program that prevents it"
				: "");
	return r;
}

static int attach(const struct instance_options *o, const struct tproxy_policy *policy,
		  const struct tproxy_bpf *skel, const struct cgroup *cgroup)
{
	size_t i;
	int r = 0;

	for (i = 0; i < _HOOK_MAX && r == 0; i++) {
		if (is_wanted(&hooks[i], o, policy) && hook_is_attached(&hooks[i]))
			r = instance_attach_program(
				bpf_program__fd(programs_find(skel->obj, &hooks[i])), hooks[i].name,
				hooks[i].attach_type, cgroup);
	}
	return r;
}

static int copy_fd(const struct tproxy_bpf *skel, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(skel->obj, name);

	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

int instance_attach(const struct instance_options *options, const struct cgroup *cgroup,
		    struct instance *ret_instance)
{
	_cleanup_(tproxy_bpf_destroyp) struct tproxy_bpf *skel = tproxy_bpf__open();
	struct tproxy_policy policy;
	int r;

	if (!skel) {
		r = -errno;
		log_err("cannot open the BPF object: %s", strerror(-r));
		return r;
	}
	r = make_policy(options, &policy);
	if (r == 0)
		r = load_object(options, &policy, skel);
	if (r < 0)
		return r;
	r = policy_write(bpf_map__fd(skel->maps.map_policy), &policy);
	if (r == 0)
		r = write_rules(options->rules, skel);
	if (r < 0) {
		log_err("cannot write the rules: %s", strerror(-r));
		return r;
	}
	r = attach(options, &policy, skel, cgroup);
	if (r < 0)
		return r;
	*ret_instance = (struct instance){
		.events_fd = copy_fd(skel, "map_events"),
		.observed_fd = copy_fd(skel, "map_observed"),
		.slots_fd = copy_fd(skel, "map_observed_slots"),
		.stats_fd = copy_fd(skel, "map_stats"),
	};
	return 0;
}

void instance_close(struct instance *instance)
{
	util_closep(&instance->events_fd);
	util_closep(&instance->observed_fd);
	util_closep(&instance->slots_fd);
	util_closep(&instance->stats_fd);
}
