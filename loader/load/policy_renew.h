/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Writes the policy of this load. */
#ifndef TPROXY_LOAD_POLICY_RENEW_H
#define TPROXY_LOAD_POLICY_RENEW_H

struct load_options;
struct targets;
struct tproxy_policy;

/*
 * Writes the policy that @options and @targets ask for. The seed, the start of the counters and
 * opened_bpffs stay as they are in the map. Returns 0 and the policy, or -errno, logged.
 */
int policy_renew(int map_fd, const struct load_options *options, const struct targets *targets,
		 struct tproxy_policy *ret_policy);

#endif
