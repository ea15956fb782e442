/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The index of a rule set: which rows a fact leaves. Pure, and built by the host's compiler too.
 * loader/rules/index.c makes the index; its layout is in tproxy_abi.h.
 *
 * This is packet classification by bit vectors. Each kind of condition is looked up alone, and the
 * result has a bit for each row. The bits of all results together are the rows whose conditions
 * hold. So the cost depends on the kinds of conditions, and hardly on the number of rows.
 *
 * The result may have rows too many, because two commands may have the same hash, for example.
 * rules_match() tries each row of the result. The result never lacks a row whose conditions hold.
 */
#ifndef TPROXY_RULEINDEX_BPF_H
#define TPROXY_RULEINDEX_BPF_H

#include <linux/types.h>

#include "tproxy_abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/*
 * In the kernel half a global function: the verifier checks it once, for any arguments, and not
 * again for each path that leads to it. A global function cannot know that a pointer is not NULL.
 */
#ifdef __bpf__
#define RULES_GLOBAL __attribute__((noinline))
#else
#define RULES_GLOBAL static inline
#endif

/*
 * Hides the bounds of a value from the compiler, so that the compiler keeps the test that the
 * verifier needs.
 */
#define RULES_HIDE(value) asm volatile("" : "+r"(value))

/* Returns the number of a command for TPROXY_RANGE_COMM, by multiplicative hashing. */
static __always_inline __u32 ruleindex_comm(const __u64 comm[TPROXY_COMM_LEN / 8])
{
	return (__u32)((comm[0] * 0x9e3779b97f4a7c15ULL + comm[1]) * 0xc2b2ae3d27d4eb4fULL >> 32);
}

/* Removes the rows that others does not have. */
static __always_inline void ruleindex_keep(struct tproxy_row_bits *rows,
					   const struct tproxy_row_bits *others)
{
	__u32 i;

	for (i = 0; i < TPROXY_RULES_MAX / 64; i++)
		rows->words[i] &= others->words[i];
}

/*
 * Removes the rows that need another value. A binary search without branches, so that the verifier
 * has one path: at is the number of ends below value that were found so far. Returns 0.
 */
RULES_GLOBAL int ruleindex_search(const struct tproxy_rule_ranges *ranges, __u32 value,
				  struct tproxy_row_bits *rows)
{
	__u64 at = 0;
	__u32 step;

	if (!ranges || !rows)
		return 0;
	for (step = TPROXY_RULE_RANGES_MAX / 2; step; step /= 2) {
		__u64 middle = at + step - 1, difference, below;

		RULES_HIDE(middle); /* Linux 6.1 loses the bound that clang computes */
		difference = ranges->ends[middle % TPROXY_RULE_RANGES_MAX] - (__u64)value;
		/* clang would make a branch of the sign, then of the bit: 512 paths. */
		RULES_HIDE(difference);
		below = difference >> 63; /* 1 if end < value */
		RULES_HIDE(below);
		at += below * step;
	}
	RULES_HIDE(at);
	ruleindex_keep(rows, &ranges->rows[at % TPROXY_RULE_RANGES_MAX]);
	return 0;
}

/*
 * Returns the number of the only bit of a word. BPF has no instruction for it. The constant is a de
 * Bruijn sequence: each shift of it has other upper six bits.
 */
static __always_inline __u32 ruleindex_bit(__u64 word)
{
	static const __u8 numbers[64] = {
		0,  1,	48, 2,	57, 49, 28, 3,	61, 58, 50, 42, 38, 29, 17, 4,
		62, 55, 59, 36, 53, 51, 43, 22, 45, 39, 33, 30, 24, 18, 12, 5,
		63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21, 44, 32, 23, 11,
		46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9,	13, 8,	7,  6,
	};

	return numbers[word * 0x03f79d71b4cb0a89ULL >> 58];
}

/* Members that ruleindex_add() looks up in a word. Few destinations are in more sets. */
#define RULEINDEX_LOOKUPS 8

/*
 * Adds the rows that need one of 64 members: bit i of bits is member first + i, and first is at
 * most TPROXY_RULE_MEMBERS_MAX - 64. With more than RULEINDEX_LOOKUPS bits it adds all rows.
 */
static __always_inline void ruleindex_add(const struct tproxy_rule_index *index, __u32 first,
					  __u64 bits, struct tproxy_row_bits *rows)
{
	const struct tproxy_row_bits *others;
	__u32 i, k, member;

	for (i = 0; i < RULEINDEX_LOOKUPS && bits; i++) {
		member = ruleindex_bit(bits & -bits);
		RULES_HIDE(member); /* clang knows its bound, the verifier does not */
		others = &index->members[first + member % 64];
		RULES_HIDE(others); /* clang would compute the address of each word */
		for (k = 0; k < TPROXY_RULES_MAX / 64; k++)
			rows->words[k] |= others->words[k];
		bits &= bits - 1;
	}
	for (k = 0; k < TPROXY_RULES_MAX / 64 && bits; k++)
		rows->words[k] = ~0ULL;
}

/* Removes the rows that need a set that is not in sets. Returns 0. */
RULES_GLOBAL int ruleindex_sets(const struct tproxy_rule_index *index,
				const struct tproxy_set_bits *sets, struct tproxy_row_bits *rows)
{
	struct tproxy_row_bits found;
	__u32 i;

	if (!index || !sets || !rows)
		return 0;
	found = index->without_set;
	for (i = 0; i < TPROXY_SETS_MAX / 64; i++)
		ruleindex_add(index, 64 * i, sets->words[i], &found);
	ruleindex_keep(rows, &found);
	return 0;
}

/* Removes the rows that need a cgroup test without its bit in cgroups. Returns 0. */
RULES_GLOBAL int ruleindex_cgroups(const struct tproxy_rule_index *index, __u64 cgroups,
				   struct tproxy_row_bits *rows)
{
	struct tproxy_row_bits found;

	if (!index || !rows)
		return 0;
	found = index->without_cgroup;
	ruleindex_add(index, TPROXY_SETS_MAX, cgroups, &found);
	ruleindex_keep(rows, &found);
	return 0;
}

#endif
