/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The policy in map_policy. */
#ifndef TPROXY_POLICY_BPF_H
#define TPROXY_POLICY_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.bpf.h"
#include "tproxy_abi.h"

/* Returns the policy, or NULL if its ABI version is another one. */
static __always_inline const struct tproxy_policy *get_policy(void)
{
	const struct tproxy_policy *policy;
	__u32 key = 0;

	policy = bpf_map_lookup_elem(&map_policy, &key);
	return policy && policy->abi_version == TPROXY_ABI_VERSION ? policy : NULL;
}

/* True if the calling process is in the relay cgroup or below it. */
static __always_inline bool in_relay_cgroup(const struct tproxy_policy *policy)
{
	return policy->relay_cgroup_id &&
	       bpf_get_current_ancestor_cgroup_id(policy->relay_cgroup_level) ==
		       policy->relay_cgroup_id;
}

#endif
