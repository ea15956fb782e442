/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which row of a rule set decides a connection. Pure, and built by the host's compiler too, as
 * decide.bpf.h is. The layout of the rules is in tproxy_abi.h; gather.bpf.h collects the facts, and
 * only those that tproxy_rules.needs names.
 *
 * The rows are tried one after the other, because that costs 2 ns a row and the order decides. The
 * destination is looked up once, whatever the number of prefixes: facts have the sets that it is
 * in, and a row tests one bit. The same holds for cgroups.
 */
#ifndef TPROXY_RULES_BPF_H
#define TPROXY_RULES_BPF_H

#include <stdbool.h>
#include <linux/types.h>

#include "tproxy_abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* One connection, as rules see it. */
struct rule_facts {
	struct tproxy_set_bits sets; /* that the destination is in */
	__u64 cgroups;		     /* bit i: tproxy_rules.cgroup_tests[i] holds */
	__u64 comm[TPROXY_COMM_LEN / 8];
	__u32 uid, gid;
	__u16 port;
	__u8 protocol;
	__u8 named_only; /* only rows with a destination apply: a loopback address, see decide() */
};

/* Returned by rules_match() if the default action decides. */
#define RULES_NO_ROW (-1)
/* Not a group. */
#define RULES_NO_GROUP 0xffff

static __always_inline bool rule_matches(const struct tproxy_rule *row, const struct rule_facts *f)
{
	const __u32 conditions = row->conditions;

	if (row->protocol != f->protocol)
		return false;
	if (conditions & TPROXY_RULE_SET) {
		if (!(f->sets.words[row->set / 64 % (TPROXY_SETS_MAX / 64)] >> row->set % 64 & 1))
			return false;
	} else if (f->named_only && row->action != TPROXY_RULE_SKIP) {
		return false;
	}
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
	return true;
}

/* Returns the index of the row that decides, or RULES_NO_ROW. */
static __always_inline int rules_match(const struct tproxy_rules *rules, const struct rule_facts *f)
{
	__u32 skipped = RULES_NO_GROUP;
	__u32 i;

	for (i = 0; i < TPROXY_RULES_MAX && i < rules->n_rows; i++) {
		const struct tproxy_rule *row = &rules->rows[i];

		if (row->group == skipped || !rule_matches(row, f))
			continue;
		if (row->action != TPROXY_RULE_SKIP)
			return (int)i;
		skipped = row->group;
	}
	return RULES_NO_ROW;
}

/*
 * The name of a cgroup, in words of eight bytes. The kernel half reads it from kernel memory, the
 * host from a buffer; what follows the NUL is undefined. The includer defines rules_name_word().
 */
static __always_inline __u64 rules_name_word(const char *name, __u32 offset);

/* Returns a mask of the first n bytes in memory of a word, n from 1 to 7. */
static __always_inline __u64 rules_first_bytes(__u32 n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (1ULL << 8 * n) - 1;
#else
	return ~0ULL << (64 - 8 * n);
#endif
}

static __always_inline __u64 rules_text_word(const char *text, __u32 i)
{
	__u64 word;

	__builtin_memcpy(&word, text + 8 * i, sizeof(word));
	return word;
}

/* True if the len bytes of the name from offset on are those of text. */
static __always_inline bool rules_name_has(const char *name, __u32 offset, const char *text,
					   __u32 len)
{
	__u32 i;

	for (i = 0; i < TPROXY_CGROUP_PATTERN_LEN / 8 && 8 * i < len; i++) {
		__u64 word = rules_name_word(name, offset + 8 * i);
		__u32 left = len - 8 * i;

		/* Only the first bytes of the last word count. */
		if (left < 8)
			word &= rules_first_bytes(left);
		if (word != rules_text_word(text, i))
			return false;
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

#endif
