/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The facts that rules ask for, and the row that applies. A fact is gathered only if some row needs
 * it. The results of the cgroup tests for a cgroup cannot change. They are computed once for each
 * cgroup and generation of rules, and cached in map_cgroup_bits.
 */
#ifndef TPROXY_RULEFACTS_BPF_H
#define TPROXY_RULEFACTS_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "defs.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "rules.bpf.h"
#include "tproxy_abi.h"

static __always_inline void rules_name_read(__u64 chunk[RULES_CHUNK_WORDS], const char *name,
					    __u32 offset, __u32 n)
{
	barrier_var(n); /* clang knows the bound, the verifier does not */
	if (n <= RULES_CHUNK)
		bpf_probe_read_kernel(chunk, n, name + offset);
}

/* Returns the rule set in force, or NULL if none was loaded. */
static __always_inline const struct tproxy_rules *get_rules(void)
{
	const struct tproxy_rules *rules = NULL;
	__u32 key = 0;
	void *inner = bpf_map_lookup_elem(&map_rules, &key);

	if (inner)
		rules = bpf_map_lookup_elem(inner, &key);
	return rules && rules->generation ? rules : NULL;
}

/*
 * Returns the length of a cgroup's name. A global function, see rules_find(). Global functions take
 * no pointer to kernel memory, so the address is a number.
 */
__attribute__((noinline)) __u64 rules_name_length(__u64 address)
{
	char part[RULES_CHUNK];
	__u64 length = 0;
	long n;
	int i;

	/* Each part but the last one is RULES_CHUNK - 1 bytes long. */
	for (i = 0; i <= TPROXY_CGROUP_NAME_MAX / (RULES_CHUNK - 1); i++) {
		n = bpf_probe_read_kernel_str(part, sizeof(part), (const char *)address + length);
		if (n <= 0)
			break;
		length += n - 1;
		if (n < RULES_CHUNK)
			break;
	}
	return length < TPROXY_CGROUP_NAME_MAX ? length : TPROXY_CGROUP_NAME_MAX;
}

/*
 * Returns the tests that hold for the ancestor of a cgroup at this level. A global function, see
 * rules_find(): otherwise the verifier would walk through all tests again for each level, and that
 * was two thirds of the time of a load.
 */
__attribute__((noinline)) __u64 rules_level_bits(const struct tproxy_rules *rules, __u64 address,
						 __u32 level)
{
	const struct cgroup *cgroup = (const struct cgroup *)address;
	struct cgroup *ancestor;
	struct kernfs_node *kn;
	__u64 name;

	if (!rules || level >= TPROXY_CGROUP_LEVELS_MAX)
		return 0;
	ancestor = (void *)read_kernel(__builtin_preserve_access_index(&cgroup->ancestors[level]));
	kn = (void *)read_kernel(__builtin_preserve_access_index(&ancestor->kn));
	name = read_kernel(__builtin_preserve_access_index(&kn->name));
	return rules_test_cgroup(rules, read_kernel(__builtin_preserve_access_index(&kn->id)),
				 (const char *)name, rules_name_length(name));
}

/* Returns the cgroup of the calling process, as a number: see rules_cgroup_bits(). */
static __always_inline __u64 current_cgroup(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return (__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp);
}

/*
 * Returns the bits of struct rule_facts for a cgroup, whose address is given as a number. A global
 * function, see rules_find(). Id and names are read from the same cgroup, even if the process is
 * moved meanwhile.
 */
__attribute__((noinline)) __u64 rules_cgroup_bits(const struct tproxy_rules *rules, __u64 address)
{
	struct cgroup *cgroup = (struct cgroup *)address;
	struct tproxy_cgroup_key key = {};
	const __u64 *known;
	__u64 bits = 0;
	int level, i;

	if (!rules)
		return 0;
	key.generation = rules->generation;
	key.cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	known = bpf_map_lookup_elem(&map_cgroup_bits, &key);
	if (known)
		return *known;
	level = BPF_CORE_READ(cgroup, level);
	for (i = 0; i < TPROXY_CGROUP_LEVELS_MAX && i <= level; i++)
		bits |= rules_level_bits(rules, address, i);
	bpf_map_update_elem(&map_cgroup_bits, &key, &bits, BPF_ANY);
	return bits;
}

/*
 * Returns the cgroup tests that hold for the calling process. If they are cached, this takes one
 * helper and one lookup. rules_cgroup_bits() has to read kernel memory before its lookup.
 */
static __always_inline __u64 rules_process_bits(const struct tproxy_rules *rules)
{
	const struct tproxy_cgroup_key key = { .cgroup_id = bpf_get_current_cgroup_id(),
					       .generation = rules->generation };
	const __u64 *known = bpf_map_lookup_elem(&map_cgroup_bits, &key);

	return known ? *known : rules_cgroup_bits(rules, current_cgroup());
}

static __always_inline void read_sets(const struct tproxy_rules *rules,
				      const struct tproxy_endpoint *dst, struct rule_facts *f)
{
	struct tproxy_prefix prefix = { .n_bits = 8 * sizeof(prefix.addr) };
	const struct tproxy_set_bits *bits;
	__u32 slot = rules->sets_slot;
	void *sets = bpf_map_lookup_elem(&map_sets, &slot);

	if (!sets)
		return;
	__builtin_memcpy(prefix.addr, dst->addr, sizeof(prefix.addr));
	bits = bpf_map_lookup_elem(sets, &prefix);
	if (bits)
		f->sets = *bits;
}

/* Reads all facts about the calling process, even those that no row needs now. */
static __always_inline void rule_process_read(struct rule_process *process)
{
	const __u64 ids = bpf_get_current_uid_gid(); /* the real ones */

	process->uid = (__u32)ids;
	process->gid = ids >> 32;
	read_leader_comm(process->comm);
}

/* Reads the facts that some row needs. The others stay zero. */
static __always_inline void rule_facts_read(const struct tproxy_rules *rules,
					    const struct tproxy_endpoint *dst, __u8 protocol,
					    bool named_only, __u64 cgroups, struct rule_facts *f)
{
	const __u64 ids = bpf_get_current_uid_gid(); /* the real ones */

	*f = (struct rule_facts){
		.cgroups = cgroups,
		.uid = (__u32)ids,
		.gid = ids >> 32,
		.port = dst->port,
		.protocol = protocol,
		.named_only = named_only,
	};
	if (rules->needs & TPROXY_NEEDS_SETS)
		read_sets(rules, dst, f);
	if (rules->needs & TPROXY_NEEDS_COMM)
		read_leader_comm(f->comm);
}

/*
 * Returns the index of the row that applies to the calling process, or RULES_NO_ROW. protocol,
 * named_only and cgroups are as in struct rule_facts. A global function: the verifier checks it
 * once, alone, and not again for each path that leads to it.
 */
__attribute__((noinline)) int rules_find(const struct tproxy_rules *rules,
					 const struct tproxy_endpoint *dst, __u32 protocol,
					 __u32 named_only, __u64 cgroups)
{
	struct rule_facts f;

	if (!rules || !dst)
		return RULES_NO_ROW;
	rule_facts_read(rules, dst, protocol, named_only, cgroups, &f);
	return rules_match(rules, &f);
}

/*
 * As rules_find(), for a UDP datagram; process is the process that connected the socket. A global
 * function too.
 */
__attribute__((noinline)) int rules_find_udp(const struct tproxy_rules *rules,
					     const struct tproxy_endpoint *dst,
					     const struct rule_process *process, __u32 named_only,
					     __u64 cgroups)
{
	struct rule_facts f;

	if (!rules || !dst || !process)
		return RULES_NO_ROW;
	f = (struct rule_facts){
		.cgroups = cgroups,
		.comm = { process->comm[0], process->comm[1] },
		.uid = process->uid,
		.gid = process->gid,
		.port = dst->port,
		.protocol = IPPROTO_UDP,
		.named_only = named_only,
	};
	if (rules->needs & TPROXY_NEEDS_SETS)
		read_sets(rules, dst, &f);
	return rules_match(rules, &f);
}

/*
 * Atomic, because the counters are per CPU and egress may run in a softirq that interrupts connect,
 * or in a task that preempts it.
 */
static __always_inline void rule_count(__u32 counter)
{
	struct tproxy_rule_stat *stat = bpf_map_lookup_elem(&map_rule_stats, &counter);

	if (!stat)
		return;
	__sync_fetch_and_add(&stat->hits, 1);
	stat->last_ns = bpf_ktime_get_coarse_ns();
}

#endif
