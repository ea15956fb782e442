/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The policy in map_policy, and the sockets that belong to relays. */
#ifndef TPROXY_POLICY_BPF_H
#define TPROXY_POLICY_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "kernel.bpf.h"
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

/* True if the socket was made in the relay cgroup or below it. */
static __always_inline bool socket_in_relay_cgroup(const struct tcp_sock *tp)
{
	const struct tproxy_policy *policy = get_policy();
	const struct cgroup *cgroup, *ancestor;
	__u32 level;

	if (!policy || !policy->relay_cgroup_id)
		return false;
	cgroup = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup);
	level = policy->relay_cgroup_level;
	if (level > (__u32)BPF_CORE_READ(cgroup, level))
		return false;
	ancestor = (const struct cgroup *)read_kernel(
		__builtin_preserve_access_index(&cgroup->ancestors[level]));
	return BPF_CORE_READ(ancestor, kn, id) == policy->relay_cgroup_id;
}

/* Only the sockets of relays are marked. */
static __always_inline bool is_marked_of_relay(struct bpf_sock *sk)
{
	const struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);

	return mark && mark->flags;
}

#endif
