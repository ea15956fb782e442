/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shared by all programs: constants that UAPI headers lack, access to IPv6 addresses in a context,
 * the policy, counters.
 */
#ifndef TPROXY_BASE_BPF_H
#define TPROXY_BASE_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "endpoint.bpf.h"
#include "maps.bpf.h"
#include "tproxy_abi.h"

/* Defined in headers that include libc's, or that are not UAPI. */
#define AF_INET		 2
#define AF_INET6	 10
#define SOCK_STREAM	 1
#define SOL_IP		 0
#define SOL_TCP		 6
#define SOL_IPV6	 41
#define SO_ORIGINAL_DST	 80 /* linux/netfilter_ipv4.h */
#define PAGE_SIZE_MIN	 4096
#define SOL_SOCKET	 1
#define SO_BINDTOIFINDEX 62
#define SO_KEEPALIVE	 9
#define TCP_KEEPIDLE	 4
#define TCP_KEEPINTVL	 5
#define TCP_KEEPCNT	 6
#define TCP_USER_TIMEOUT 18

/*
 * Copy an IPv6 address (four words, network byte order) from and to a context. volatile keeps clang
 * from merging neighbouring accesses into wider ones, which the verifier rejects.
 */
static __always_inline void load_words(__be32 *to, const volatile __u32 *ctx_words)
{
	to[0] = ctx_words[0];
	to[1] = ctx_words[1];
	to[2] = ctx_words[2];
	to[3] = ctx_words[3];
}

static __always_inline void store_words(volatile __u32 *ctx_words, const struct tproxy_endpoint *ep)
{
	ctx_words[0] = endpoint_word(ep, 0);
	ctx_words[1] = endpoint_word(ep, 1);
	ctx_words[2] = endpoint_word(ep, 2);
	ctx_words[3] = endpoint_word(ep, 3);
}

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

static __always_inline void count(enum tproxy_stat stat)
{
	__u32 key = stat;
	__u64 *value = bpf_map_lookup_elem(&map_stats, &key);

	if (value)
		(*value)++;
}

#endif
