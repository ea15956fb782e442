/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which row of a rule set decides a connection. Pure, and built by the host's compiler too, as
 * decide.bpf.h is. The layout of the rules is in tproxy_abi_rules.h; rulefacts.bpf.h collects the
 * facts, and only those that tproxy_rules.needs names.
 *
 * The rows are tried in order, at some 5 ns a row. Of more than RULES_UNINDEXED rows only those are
 * tried whose conditions can hold: ruleindex.bpf.h finds them, with one search for each kind of
 * condition that the rules have. The destination is looked up once, whatever the number of
 * prefixes: the facts have a bit for each set that contains it, and a row tests one bit. The same
 * holds for cgroups.
 */
#ifndef TPROXY_RULES_BPF_H
#define TPROXY_RULES_BPF_H

#include <stdbool.h>
#include <linux/types.h>

#include "ruleindex.bpf.h"
#include "tproxy_abi.h"

/*
 * Rows that one global function tries. The verifier walks each path through all of them, and its
 * work grows faster than their number. Divides 64.
 */
#define RULES_BLOCK 8
/* Rows that are tried without the index, which would take as long. */
#define RULES_UNINDEXED 16

/* One connection, as rules see it. */
struct rule_facts {
	struct tproxy_set_bits sets; /* that the destination is in */
	__u64 cgroups;		     /* bit i: tproxy_rules.cgroup_tests[i] holds */
	__u64 comm[TPROXY_COMM_LEN / 8];
	__u32 uid, gid;
	__u16 port;
	__u8 protocol;
	__u8 named_only; /* only rows with a destination apply: a loopback address, see decide() */
	__u32 reserved;
};

/* Returned by rules_match() if the default action decides. */
#define RULES_NO_ROW (-1)
/* Not a group. */
#define RULES_NO_GROUP 0xffff

/* All conditions must hold. The tests that exclude most rows of usual rule sets come first. */
static __always_inline bool rule_matches(const struct tproxy_rule *row, const struct rule_facts *f)
{
	__u32 conditions = row->conditions;

	if (conditions & TPROXY_RULE_SET &&
	    !(f->sets.words[row->set / 64 % (TPROXY_SETS_MAX / 64)] >> row->set % 64 & 1))
		return false;
	if (conditions & TPROXY_RULE_PORT &&
	    (f->port < row->port_first || f->port > row->port_last))
		return false;
	if (conditions & TPROXY_RULE_UID && (f->uid < row->uid_first || f->uid > row->uid_last))
		return false;
	if (conditions & TPROXY_RULE_GID && (f->gid < row->gid_first || f->gid > row->gid_last))
		return false;
	if (conditions & TPROXY_RULE_CGROUP && !(f->cgroups >> row->cgroup % 64 & 1))
		return false;
	if (conditions & TPROXY_RULE_COMM) {
		__u64 comm[TPROXY_COMM_LEN / 8];

		__builtin_memcpy(comm, row->comm, sizeof(comm));
		if (comm[0] != f->comm[0] || comm[1] != f->comm[1])
			return false;
	}
	/* Otherwise the verifier would walk the tests above twice, with a set and without one. */
	RULES_HIDE(conditions);
	if (f->named_only && !(conditions & TPROXY_RULE_SET) && row->action != TPROXY_RULE_SKIP)
		return false;
	return row->protocol == f->protocol;
}

/*
 * Sets *rows to the rows that can match. Not a global function: kernels before 6.8 count at least
 * 32 bytes of stack for each function, and connect has few left.
 */
static __always_inline void rules_candidates(const struct tproxy_rules *rules,
					     const struct rule_facts *f,
					     struct tproxy_row_bits *rows)
{
	const __u32 conditions = rules->conditions;

	*rows = rules->index.protocols[f->protocol % 2];
	if (conditions & TPROXY_RULE_SET)
		ruleindex_sets(&rules->index, &f->sets, rows);
	if (conditions & TPROXY_RULE_CGROUP)
		ruleindex_cgroups(&rules->index, f->cgroups, rows);
	if (conditions & TPROXY_RULE_PORT)
		ruleindex_search(&rules->index.ranges[TPROXY_RANGE_PORT], f->port, rows);
	if (conditions & TPROXY_RULE_UID)
		ruleindex_search(&rules->index.ranges[TPROXY_RANGE_UID], f->uid, rows);
	if (conditions & TPROXY_RULE_GID)
		ruleindex_search(&rules->index.ranges[TPROXY_RANGE_GID], f->gid, rows);
	if (conditions & TPROXY_RULE_COMM)
		ruleindex_search(&rules->index.ranges[TPROXY_RANGE_COMM], ruleindex_comm(f->comm),
				 rows);
}

/*
 * Tries those of RULES_BLOCK rows whose bits are set in tried, bit 0 for the row first. Returns the
 * index of the row that decides, or -1 - the group that a row with the action SKIP has excluded.
 * skipped is that group so far.
 */
RULES_GLOBAL int rules_match_block(const struct tproxy_rules *rules, __u32 first, __u32 tried,
				   __u32 skipped, const struct rule_facts *f)
{
	const struct tproxy_rule *row;
	__u32 k, n;

	if (!rules || !f || first > TPROXY_RULES_MAX - RULES_BLOCK || first >= rules->n_rows)
		return -1 - RULES_NO_GROUP;
	row = &rules->rows[first];
	n = rules->n_rows - first;
	for (k = 0; k < RULES_BLOCK && k < n; k++, row++) {
		RULES_HIDE(row);
		if (!(tried >> k & 1) || row->group == skipped || !rule_matches(row, f))
			continue;
		if (row->action != TPROXY_RULE_SKIP)
			return (int)(first + k);
		skipped = row->group;
	}
	return -1 - (int)(skipped & 0xffff);
}

/* Tries those of 64 rows whose bits are set. The rest is as in rules_match_block(). */
static __always_inline int rules_match_word(const struct tproxy_rules *rules, __u32 first,
					    __u64 bits, int found, const struct rule_facts *f)
{
	const __u32 all = (1U << RULES_BLOCK) - 1;
	__u32 k;

	for (k = 0; k < 64 / RULES_BLOCK && bits; k++) {
		if (bits & all)
			found = rules_match_block(rules, first + RULES_BLOCK * k, bits & all,
						  (__u32)(-1 - found), f);
		if (found >= 0)
			return found;
		bits >>= RULES_BLOCK;
	}
	return found;
}

/* Returns the index of the row that decides, or RULES_NO_ROW. */
static __always_inline int rules_match(const struct tproxy_rules *rules, const struct rule_facts *f)
{
	struct tproxy_row_bits rows;
	int found = -1 - RULES_NO_GROUP;
	__u32 i;

	if (rules->n_rows <= RULES_UNINDEXED) {
		found = rules_match_word(rules, 0, (1U << rules->n_rows) - 1, found, f);
		return found >= 0 ? found : RULES_NO_ROW;
	}
	rules_candidates(rules, f, &rows);
	for (i = 0; i < TPROXY_RULES_MAX / 64; i++) {
		found = rules_match_word(rules, 64 * i, rows.words[i], found, f);
		if (found >= 0)
			return found;
	}
	return RULES_NO_ROW;
}

/* A part of a name: eight bytes in each word, then NULs. */
#define RULES_CHUNK_WORDS 4
#define RULES_CHUNK	  (8 * RULES_CHUNK_WORDS)

/*
 * Copies n bytes, at most RULES_CHUNK, of a cgroup's name from offset on. The kernel half reads
 * them from kernel memory, the host from a buffer; the includer defines this function.
 */
static __always_inline void rules_name_read(__u64 chunk[RULES_CHUNK_WORDS], const char *name,
					    __u32 offset, __u32 n);

/* Part of a pattern, which is padded with NULs, and aligned as struct tproxy_cgroup_test says. */
static __always_inline __u64 rules_text_word(const char *text, __u32 i)
{
	__u64 word;

	_Static_assert(__builtin_offsetof(struct tproxy_cgroup_test, prefix) % sizeof(word) == 0,
		       "words");
	_Static_assert(__builtin_offsetof(struct tproxy_cgroup_test, suffix) % sizeof(word) == 0,
		       "words");
	__builtin_memcpy(&word, __builtin_assume_aligned(text + 8 * i, 8), sizeof(word));
	return word;
}

/* True if the len bytes of the name from offset on are those of text. */
static __always_inline bool rules_name_has(const char *name, __u32 offset, const char *text,
					   __u32 len)
{
	__u32 i, k;

	for (i = 0; i < TPROXY_CGROUP_PATTERN_LEN / RULES_CHUNK && RULES_CHUNK * i < len; i++) {
		const __u32 left = len - RULES_CHUNK * i;
		__u64 chunk[RULES_CHUNK_WORDS] = {};

		rules_name_read(chunk, name, offset + RULES_CHUNK * i,
				left < RULES_CHUNK ? left : RULES_CHUNK);
		for (k = 0; k < RULES_CHUNK_WORDS; k++) {
			if (chunk[k] != rules_text_word(text, RULES_CHUNK_WORDS * i + k))
				return false;
		}
	}
	return true;
}

/* True if a name of len bytes passes the test, which is one by name. */
static __always_inline bool rules_name_matches(const struct tproxy_cgroup_test *test,
					       const char *name, __u32 len)
{
	const __u32 prefix = test->prefix_len, suffix = test->suffix_len;

	if (test->exact ? len != prefix : len < prefix + suffix)
		return false;
	return rules_name_has(name, 0, test->prefix, prefix) &&
	       rules_name_has(name, len - suffix, test->suffix, suffix);
}

/*
 * Returns 1 if a cgroup test holds for one cgroup, without those above it; otherwise 0. The
 * address of the name is a number, because a global function takes no pointer to kernel memory.
 */
RULES_GLOBAL __u64 rules_test_holds(const struct tproxy_cgroup_test *test, __u64 id,
				    __u64 name_address, __u32 name_len)
{
	if (!test)
		return 0;
	if (test->cgroup_id)
		return test->cgroup_id == id;
	return rules_name_matches(test, (const char *)name_address, name_len);
}

/* Returns the tests that hold for one cgroup, without those above it. */
static __always_inline __u64 rules_test_cgroup(const struct tproxy_rules *rules, __u64 id,
					       const char *name, __u32 name_len)
{
	__u64 bits = 0;
	__u32 i;

	/* No branch on the result: each branch would be one more path for the verifier. */
	for (i = 0; i < TPROXY_CGROUP_TESTS_MAX && i < rules->n_cgroup_tests; i++)
		bits |= rules_test_holds(&rules->cgroup_tests[i], id, (__u64)name, name_len) << i;
	return bits;
}

#endif
