/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A part of tproxy_abi.h: the rules in force, their sets and counters. */
#ifndef TPROXY_ABI_RULES_H
#define TPROXY_ABI_RULES_H

#include <linux/types.h>

#include "tproxy_abi_base.h"

/*
 * Rules. map_rules[0] is the rule set in force, an inner map with one struct tproxy_rules;
 * map_rules_active is a pin of the same inner map. map_rules_previous is a pin of the previous rule
 * set, while `tproxyctl rules load --confirm` waits. map_sets[0] and [1] are LPM tries: prefix of a
 * destination -> the sets that it is in. tproxy_rules.sets_slot selects the trie of the rules in
 * force. A new generation fills the trie that is not in use and replaces map_rules[0] in one step,
 * so each connect() is decided by one generation. map_sets_active is a pin of the trie in use.
 * Written by `tproxyctl rules load` and tproxy-load, read by connect and the tools.
 *
 * A rule of the file becomes one row for each combination of its lists; its rows share a group and
 * a counter. The first row whose conditions all hold decides. A row with the action SKIP comes from
 * `unless`: if it holds, the other rows of its group are skipped.
 */
#define TPROXY_RULES_MAX	   256
#define TPROXY_RULE_RANGES_MAX	   512
#define TPROXY_SETS_MAX		   256
#define TPROXY_CGROUP_TESTS_MAX	   64
#define TPROXY_CGROUP_LEVELS_MAX   32  /* from the cgroup2 root on, that are tested */
#define TPROXY_CGROUP_PATTERN_LEN  96  /* of each part; a multiple of 8 */
#define TPROXY_CGROUP_NAME_MAX	   255 /* of the kernel */
#define TPROXY_RULE_COUNTERS_MAX   1024
#define TPROXY_RULE_NAME_LEN	   32
#define TPROXY_UPSTREAM_NAME_LEN   32
#define TPROXY_RULE_UPSTREAMS_MAX  64 /* that the rules name */
#define TPROXY_CGROUP_BITS_ENTRIES 4096
/* No counter: no rules were loaded, or the rule is one of `tproxyctl run`, which have none. */
#define TPROXY_NO_RULE 0xffff

enum tproxy_rule_action {
	TPROXY_RULE_REDIRECT,
	TPROXY_RULE_DIRECT,
	TPROXY_RULE_OBSERVE,
	TPROXY_RULE_REFUSE,
	TPROXY_RULE_SKIP,
};

enum tproxy_rule_conditions {
	TPROXY_RULE_SET = 1 << 0,
	TPROXY_RULE_PORT = 1 << 1,
	TPROXY_RULE_UID = 1 << 2,
	TPROXY_RULE_GID = 1 << 3,
	TPROXY_RULE_COMM = 1 << 4,
	TPROXY_RULE_CGROUP = 1 << 5,
};

enum tproxy_rule_flags {
	TPROXY_RULE_HONEST = 1 << 0, /* connect() waits for the relay, see map_pending */
	TPROXY_RULE_EAGER = 1 << 1, /* connect() does not wait. Neither flag: the relay's default */
};

struct tproxy_rule {
	__u8 conditions; /* enum tproxy_rule_conditions; the members of others are 0 */
	__u8 action;	 /* enum tproxy_rule_action */
	__u8 protocol;	 /* IPPROTO_TCP, or IPPROTO_UDP with REFUSE or SKIP */
	__u8 set;	 /* bit in struct tproxy_set_bits */
	__u8 cgroup;	 /* index in tproxy_rules.cgroup_tests */
	__u8 flags;	 /* enum tproxy_rule_flags, for REDIRECT */
	__u16 group;	 /* number of the rule in the file, from 0 */
	__u16 counter;	 /* index in map_rule_stats and map_rule_texts */
	__u16 error;	 /* errno, for REFUSE */
	__u16 port_first, port_last;
	__u32 uid_first, uid_last; /* real ids in the initial user namespace */
	__u32 gid_first, gid_last;
	/*
	 * For REDIRECT: id of the upstream that the relay is to use, see common/upstream_id.h; 0 =
	 * the rule names none, and the relay chooses.
	 */
	__u32 upstream;
	char comm[TPROXY_COMM_LEN]; /* of the thread group leader, padded with NULs */
};

/* A cgroup that a rule names: by id, or by the name of the process's cgroup or of one above. */
struct tproxy_cgroup_test {
	__u64 cgroup_id;	      /* in or below this cgroup; 0 = by name */
	__u32 level;		      /* depth of cgroup_id below the cgroup2 root */
	__u16 prefix_len, suffix_len; /* of the parts before and after the '*' */
	__u16 exact;		      /* no '*': the prefix is the whole name */
	__u16 reserved;
	__u32 reserved2;
	char prefix[TPROXY_CGROUP_PATTERN_LEN]; /* padded with NULs */
	char suffix[TPROXY_CGROUP_PATTERN_LEN];
};

enum tproxy_rules_needs {
	TPROXY_NEEDS_SETS = 1 << 0,
	TPROXY_NEEDS_COMM = 1 << 1,
	TPROXY_NEEDS_CGROUP = 1 << 2,
	TPROXY_NEEDS_LOOPBACK = 1 << 3, /* the policy's TPROXY_RULES_LOOPBACK; no fact */
	TPROXY_NEEDS_UDP = 1 << 4,	/* some row refuses UDP: the hooks of UDP; no fact */
};

/* The sets that an address is in. A prefix has the bits of all shorter ones that contain it. */
struct tproxy_set_bits {
	__u64 words[TPROXY_SETS_MAX / 64];
};

/* Bit i: row i of tproxy_rules.rows. */
struct tproxy_row_bits {
	__u64 words[TPROXY_RULES_MAX / 64];
};

/*
 * The index of a rule set: which rows can match, by one fact at a time. Row i can match if its bit
 * is in all results. tproxy_rules.conditions has the conditions that some row has; the parts of the
 * index for others are not valid, and are not read. The protocol is always valid.
 *
 * Each enum tproxy_rule_range is a fact that is a number, with the condition
 * TPROXY_RULE_PORT << range. Its values are divided into ranges. Range k ends with ends[k] and
 * begins after ends[k - 1]. All values in a range satisfy the conditions of the same rows, rows[k],
 * which include the rows without this condition. The last end, and each unused one, is UINT32_MAX.
 * If there would be too many ranges, the last one has the rows of several.
 */
enum tproxy_rule_range {
	TPROXY_RANGE_PORT,
	TPROXY_RANGE_UID,
	TPROXY_RANGE_GID,
	TPROXY_RANGE_COMM, /* a hash of the command, see bpf/ruleindex.bpf.h */
	_TPROXY_RANGE_MAX,
};

struct tproxy_rule_ranges {
	__u32 ends[TPROXY_RULE_RANGES_MAX];
	struct tproxy_row_bits rows[TPROXY_RULE_RANGES_MAX];
};

/* The facts that are members of something: sets first, then cgroups. */
#define TPROXY_RULE_MEMBERS_MAX (TPROXY_SETS_MAX + TPROXY_CGROUP_TESTS_MAX)

struct tproxy_rule_index {
	struct tproxy_rule_ranges ranges[_TPROXY_RANGE_MAX];
	/* The rows that need set i, or TPROXY_SETS_MAX + i: for which cgroup test i must hold. */
	struct tproxy_row_bits members[TPROXY_RULE_MEMBERS_MAX];
	struct tproxy_row_bits without_set, without_cgroup; /* the rows without this condition */
	struct tproxy_row_bits protocols[2];		    /* by IPPROTO_TCP or _UDP, modulo 2 */
};

struct tproxy_rules {
	__u32 generation; /* counts loads; 0 = no rules were loaded yet */
	__u32 n_rows;
	__u32 n_cgroup_tests;
	__u32 needs;	      /* enum tproxy_rules_needs: facts that some row asks for */
	__u32 sets_slot;      /* 0 or 1: index in map_sets */
	__u16 default_action; /* if no row decides: enum tproxy_rule_action, not SKIP */
	__u16 default_error;  /* errno, for REFUSE */
	__u32 default_counter;
	__u32 default_upstream; /* id, for REDIRECT; or 0 */
	__u32 conditions;	/* enum tproxy_rule_conditions: for which index is valid */
	__u32 default_flags;	/* enum tproxy_rule_flags, for REDIRECT */
	struct tproxy_rule rows[TPROXY_RULES_MAX];
	struct tproxy_rule_index index;
	struct tproxy_cgroup_test cgroup_tests[TPROXY_CGROUP_TESTS_MAX];
	/* For the tools: names of the upstreams in rows and default, then empty ones. */
	char upstreams[TPROXY_RULE_UPSTREAMS_MAX][TPROXY_UPSTREAM_NAME_LEN];
	/* For the tools: time of the load (CLOCK_MONOTONIC) and absolute path of the file. */
	__u64 loaded_ns;
	char file[4088]; /* ends with a NUL; empty: from no file */
};

/* map_rule_stats, a per-CPU array. A rule that a reload does not change keeps its counter. */
struct tproxy_rule_stat {
	__u64 hits;
	__u64 last_ns; /* CLOCK_MONOTONIC */
};

/* map_rule_texts, an array with the same index. User space only: tools, and the relay's log. */
struct tproxy_rule_text {
	__u64 hash;	   /* of the whole text */
	__u32 generation;  /* the last generation that has this rule; 0 = index not in use */
	__u32 line;	   /* in the rule file */
	__u64 since_ns;	   /* CLOCK_MONOTONIC; earlier the index belonged to another rule */
	__u32 line_before; /* in the previous rules, if they had this rule */
	__u32 reserved;
	char name[TPROXY_RULE_NAME_LEN];
	char upstream[TPROXY_UPSTREAM_NAME_LEN]; /* its name; empty: the rule names none */
	char text[416]; /* ends with a NUL; longer ones are cut and end with " ..." */
};

/* map_set_texts, an array: sets_slot * TPROXY_SETS_MAX + set. User space only. */
struct tproxy_set_text {
	__u32 generation; /* generation of the rules; any other value = index not in use */
	__u32 n_prefixes;
	char name[56]; /* or the rule's line, for a set without a name */
};

/*
 * map_cgroup_bits, an LRU map: the results of a generation's cgroup tests for a cgroup. Kernel half
 * only.
 */
struct tproxy_cgroup_key {
	__u64 cgroup_id;
	__u32 generation;
	__u32 reserved;
};

_Static_assert(sizeof(struct tproxy_rule) == 52, "ABI");
_Static_assert(sizeof(struct tproxy_cgroup_test) == 216, "ABI");
_Static_assert(sizeof(struct tproxy_row_bits) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_rule_index) == 4 * 512 * 36 + 324 * 32, "ABI");
_Static_assert(sizeof(struct tproxy_rules) ==
		       40 + 256 * 52 + sizeof(struct tproxy_rule_index) + 64 * 216 + 64 * 32 + 4096,
	       "ABI");
_Static_assert(sizeof(struct tproxy_set_bits) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_rule_stat) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_rule_text) == 512, "ABI");
_Static_assert(sizeof(struct tproxy_set_text) == 64, "ABI");
_Static_assert(sizeof(struct tproxy_cgroup_key) == 16, "ABI");

#endif
