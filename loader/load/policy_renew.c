// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the one entry of map_policy, see policy_renew.h.
 *
 * The policy is the configuration that the programs read. A load writes it as a whole, from the
 * options and the targets. Some members outlive the load that set them: the seed and the start of
 * the counters, because a reload keeps the maps; opened_bpffs, the duty to clear the search bit
 * (search_bit.h); and the flag TPROXY_RULES_LOOPBACK, which belongs to the rules in force. In a map
 * that was created and never written, abi_version is 0, and the programs redirect nothing.
 */
#include "policy_renew.h"

#include <string.h>
#include <sys/random.h>

#include "log.h"
#include "monotonic.h"
#include "options.h"
#include "state/policy.h"
#include "targets.h"
#include "tproxy_abi.h"

int policy_renew(int map_fd, const struct load_options *options, const struct targets *targets,
		 struct tproxy_policy *ret_policy)
{
	struct tproxy_policy policy, before;
	int r;

	policy = (struct tproxy_policy){
		.abi_version = TPROXY_ABI_VERSION,
		.flags = (options->fail_closed ? TPROXY_FAIL_CLOSED : 0) |
			 (options->include_loopback ? TPROXY_INCLUDE_LOOPBACK : 0),
		.relay_cgroup_id = targets->relay.id,
		.relay_cgroup_level = targets->relay.level,
	};
	r = policy_read(map_fd, &before);
	if (r == 0) {
		policy.flags |= before.flags & TPROXY_RULES_LOOPBACK;
		policy.opened_bpffs = before.opened_bpffs;
		policy.seed = before.seed;
		if (!before.seed && getrandom(&policy.seed, sizeof(policy.seed), 0) < 0)
			policy.seed = monotonic_kernel_ns();
		/* A reload keeps the counters, and so their start time. */
		policy.loaded_ns = before.loaded_ns ? before.loaded_ns : monotonic_kernel_ns();
		r = policy_write(map_fd, &policy);
	}
	if (r < 0)
		log_err("cannot write the policy: %s", strerror(-r));
	else
		*ret_policy = policy;
	return r;
}
