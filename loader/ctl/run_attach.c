// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run: the programs at the command's cgroup, see run_attach.h. If the command has rules
 * of its own, they are the programs of an instance for this cgroup (load/instance.h), otherwise the
 * pinned programs.
 */
#include "run_attach.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "host/cgroup.h"
#include "load/instance.h"
#include "log.h"
#include "objects.h"
#include "options.h"
#include "rules/rules.h"
#include "state/direct.h"
#include "state/maps.h"
#include "state/on_demand.h"
#include "state/pinned_prog.h"
#include "state/policy.h"
#include "tproxy_abi.h"
#include "upstream_id.h"
#include "util.h"

static int attach(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup)
{
	_cleanup_close_ int fd = pinned_prog_open(pin_dir, hook->name);

	if (fd < 0) {
		log_err("run: cannot open '%s/prog_%s': %s", pin_dir, hook->name, strerror(-fd));
		return fd;
	}
	return instance_attach_program(fd, hook->name, hook->attach_type, cgroup);
}

int run_attach_pinned(const char *pin_dir, const struct cgroup *cgroup)
{
	struct tproxy_policy policy;
	uint32_t version;
	size_t i;
	unsigned int needs;
	int r;

	r = maps_check_abi(pin_dir, &version);
	if (r == -ENOENT)
		log_err("run: " MAPS_NOT_LOADED, pin_dir);
	if (r < 0)
		return r;
	r = policy_read_pinned(pin_dir, &policy);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_POLICY, r);
	needs = on_demand_needs(pin_dir);
	for (i = 0; i < _HOOK_MAX && r == 0; i++) {
		if (!on_demand_wants(needs, &hooks[i]))
			continue;
		/* Without a relay cgroup, relays may run in the same cgroups as clients. */
		if (hooks[i].scope || (hooks[i].relay && !policy.relay_cgroup_id))
			r = attach(pin_dir, &hooks[i], cgroup);
	}
	return r;
}

bool run_attach_wants_rules(const struct ctl_options *options)
{
	return *options->rules || *options->via || options->observe || options->fail_closed;
}

/* Replaces the action direct by observe in all rules. */
static void observe_direct(struct rules_compiled *compiled)
{
	struct tproxy_rules *rules = &compiled->rules;
	size_t i;

	for (i = 0; i < rules->n_rows; i++) {
		if (rules->rows[i].action == TPROXY_RULE_DIRECT)
			rules->rows[i].action = TPROXY_RULE_OBSERVE;
	}
	if (rules->default_action == TPROXY_RULE_DIRECT)
		rules->default_action = TPROXY_RULE_OBSERVE;
	compiled->has_observe = true;
}

/*
 * Gives this upstream to what is redirected and names no other. Returns 0, or -EINVAL if nothing
 * is redirected, logged.
 */
static int redirect_via(const char *upstream, struct rules_compiled *compiled)
{
	struct tproxy_rules *rules = &compiled->rules;
	bool used = false;
	size_t i;

	for (i = 0; i < rules->n_rows; i++) {
		if (rules->rows[i].action != TPROXY_RULE_REDIRECT)
			continue;
		used = true;
		if (!rules->rows[i].upstream)
			rules->rows[i].upstream = upstream_id(upstream);
	}
	if (rules->default_action == TPROXY_RULE_REDIRECT) {
		used = true;
		if (!rules->default_upstream)
			rules->default_upstream = upstream_id(upstream);
	}
	if (!used) {
		log_err("run: --via %s has no effect, because the rules redirect nothing",
			upstream);
		return -EINVAL;
	}
	if (rules_keep_upstream(rules, upstream) < 0) {
		log_err("run: --via %s: the rules name %d other upstreams, and no more fit",
			upstream, TPROXY_RULE_UPSTREAMS_MAX);
		return -EINVAL;
	}
	return 0;
}

/* Returns true if a rule or the default names an upstream. */
static bool names_upstream(const struct rules_compiled *compiled)
{
	const struct tproxy_rules *rules = &compiled->rules;
	size_t i;

	for (i = 0; i < rules->n_rows; i++) {
		if (rules->rows[i].upstream)
			return true;
	}
	return rules->default_upstream;
}

int run_attach_read_rules(const struct ctl_options *options, const struct cgroup *parent,
			  struct rules_compiled *ret_compiled)
{
	const struct rules_options here = { .scopes = parent, .n_scopes = 1 };
	int r = 0;

	if (*options->rules) {
		r = rules_compile_file(options->rules, &here, ret_compiled);
		rules_messages_print(&ret_compiled->messages, stderr);
	} else if (options->observe) {
		ret_compiled->rules.default_action = TPROXY_RULE_DIRECT;
	}
	if (r == 0 && options->observe)
		observe_direct(ret_compiled);
	if (r == 0 && *options->via)
		r = redirect_via(options->via, ret_compiled);
	return r;
}

/* Returns true if the pinned programs run for the cgroup, with the policy to refuse. */
static bool is_closed_above(const char *pin_dir, const struct cgroup *cgroup)
{
	struct tproxy_policy policy;

	return direct_level(pin_dir, &hooks[HOOK_CONNECT4], cgroup) >= 0 &&
	       policy_read_pinned(pin_dir, &policy) == 0 && policy.flags & TPROXY_FAIL_CLOSED;
}

/* Checks that the load whose scope the cgroup is in has its pins here. Logs an error. */
static int find_advised(const char *pin_dir, const struct cgroup *cgroup)
{
	uint32_t version;
	int r = maps_check_abi(pin_dir, &version);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && direct_level(pin_dir, &hooks[HOOK_CONNECT4], cgroup) >= 0)
		return 0;
	log_err("run: '%s' is in the scope of a load whose pins are not in '%s', so its relay would not learn the upstream; --pin-dir names the pins",
		cgroup->path, pin_dir);
	return -EBUSY;
}

int run_attach_rules(const struct ctl_options *options, const struct rules_compiled *compiled,
		     const struct cgroup *cgroup, bool covered, struct instance *ret_instance)
{
	struct instance_options o = { .rules = compiled, .fail_closed = options->fail_closed };
	uint32_t version;
	int r;

	if (covered && options->fail_closed) {
		if (!is_closed_above(options->pin_dir, cgroup)) {
			log_err("run: '%s' is in the scope of a load that is not fail-closed, which decides after the command's rules; load that one with --fail-closed",
				cgroup->path);
			return -EBUSY;
		}
		o.fail_closed = false;
	}
	if (!covered) {
		r = maps_check_abi(options->pin_dir, &version);
		if (r == -ENOENT && *options->via)
			log_err("run: --via: " MAPS_NOT_LOADED, options->pin_dir);
		if (r < 0 && (r != -ENOENT || *options->via))
			return r;
		o.shared_dir = r == 0 ? options->pin_dir : NULL;
	} else if (names_upstream(compiled)) {
		r = find_advised(options->pin_dir, cgroup);
		if (r < 0)
			return r;
		o.advised_dir = options->pin_dir;
	}
	return instance_attach(&o, cgroup, ret_instance);
}
