/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A rule file after parsing: its sets, its rules in order, its default. grammar.c makes it from
 * text alone; resolve.c replaces host names, users, groups and cgroups by their addresses and ids
 * on this host, and adds the contents of list files.
 */
#ifndef TPROXY_RULES_PARSED_H
#define TPROXY_RULES_PARSED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"
#include "prefix.h"
#include "tproxy_abi.h"

/* Names of sets: room for them and a NUL. */
#define PARSED_SET_NAME_LEN sizeof(((struct tproxy_set_text *)NULL)->name)

enum parsed_type {
	PARSED_SET,	/* @NAME; number_first is the index in parsed.sets */
	PARSED_HOST,	/* a host name */
	PARSED_NUMBERS, /* ports or ids, from number_first to number_last */
	PARSED_USER,	/* a user or group name, until it is resolved to NUMBERS */
	PARSED_GROUP,
	PARSED_COMMAND,
	PARSED_CGROUP_PATH, /* cgroup_id and cgroup_level are set when it is resolved */
	PARSED_CGROUP_NAME, /* a pattern with at most one '*' */
};

/* One element of a list of the file. */
struct parsed_item {
	enum parsed_type type;
	struct rules_place at;
	char *word; /* NULL for numbers */
	uint32_t number_first, number_last;
	uint64_t cgroup_id;
	uint32_t cgroup_level;
};

/*
 * Elements, of which at least one has to match. Addresses are in prefixes, everything else in
 * items.
 */
struct parsed_list {
	bool given;
	bool any; /* `to any`: no condition */
	struct rules_place at;
	struct parsed_item *items;
	size_t n_items, room;
	struct prefixes prefixes;
};

enum parsed_condition {
	PARSED_TO,
	PARSED_PORT,
	PARSED_UID,
	PARSED_GID,
	PARSED_COMM,
	PARSED_CGROUP,
	_PARSED_CONDITION_MAX,
};

/* Conditions that all have to hold. */
struct parsed_conditions {
	struct parsed_list lists[_PARSED_CONDITION_MAX];
};

struct parsed_rule {
	struct rules_place at; /* of the action */
	uint8_t action;	       /* enum tproxy_rule_action */
	uint8_t protocol;      /* IPPROTO_TCP or IPPROTO_UDP */
	uint16_t error;	       /* errno, for refuse */
	uint8_t flags;	       /* enum tproxy_rule_flags, one of them at most, for redirect */
	char name[TPROXY_RULE_NAME_LEN];
	char upstream[TPROXY_UPSTREAM_NAME_LEN]; /* empty: the rule names none */
	struct parsed_conditions conditions;
	struct parsed_conditions *unless; /* exceptions: if one holds, the rule does not apply */
	size_t n_unless;
	char *text; /* as struct rules_rule has it */
};

struct parsed_set {
	struct rules_place at; /* of the name */
	char name[PARSED_SET_NAME_LEN];
	struct parsed_list list; /* addresses and host names */
	char *file;		 /* as written; NULL: none */
	struct rules_place file_at;
	bool used;
};

struct parsed {
	struct parsed_set *sets;
	size_t n_sets, sets_room;
	struct parsed_rule *rules;
	size_t n_rules, rules_room;
	struct parsed_rule
		by_default; /* as of a rule, without conditions; at.line 0: not in the file */
};

/* Appends a zeroed element, which the caller fills. Return NULL without memory. */
struct parsed_item *parsed_add_item(struct parsed_list *list);
struct parsed_conditions *parsed_add_unless(struct parsed_rule *rule);
struct parsed_set *parsed_add_set(struct parsed *parsed);
struct parsed_rule *parsed_add_rule(struct parsed *parsed);

/* Returns true if there is no condition, or only `to any`. */
bool parsed_is_empty(const struct parsed_conditions *conditions);

void parsed_finish(struct parsed *parsed);

#endif
