/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Compiles a rule file (tproxy-rules(5)) to the structures that the kernel half reads. List files,
 * host names, users, groups and cgroups are looked up here, once.
 *
 * A rule becomes rows, see tproxy_abi.h. Each list of CIDRs is a set, with or without a name. The
 * prefixes of all sets make one sorted array, in which each prefix has the bits of the sets that
 * contain it. The loader adds the generation, the slot of the sets and the counters.
 */
#ifndef TPROXY_RULES_RULES_H
#define TPROXY_RULES_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"
#include "tproxy_abi.h"

struct cgroup;

struct rules_options {
	/*
	 * Look up no host name, user, group or cgroup: for a check on another host. The result
	 * cannot be loaded. List files are read.
	 */
	bool no_resolve;
	/*
	 * The cgroups in scope. A rule about another cgroup by its path is an error, because no
	 * process there is decided by rules. NULL: not known.
	 */
	const struct cgroup *scopes;
	size_t n_scopes;
};

/* A rule of the file, or its default. */
struct rules_rule {
	char *text;    /* one blank between words, without comment; printable ASCII */
	uint64_t hash; /* of the text, not 0: rules with equal hashes are the same rule */
	char name[TPROXY_RULE_NAME_LEN];	 /* empty without one */
	char upstream[TPROXY_UPSTREAM_NAME_LEN]; /* the same */
	unsigned int line;
	unsigned int first_row, n_rows; /* in tproxy_rules.rows; 0 rows for the default */
};

struct rules_set {
	char name[sizeof(((struct tproxy_set_text *)NULL)->name)]; /* or "line N" */
	unsigned int line;
	size_t n_prefixes; /* as given; a range of addresses is one or more */
};

struct rules_compiled {
	/*
	 * All but generation, loaded_ns, file, sets_slot, default_counter and the counter of each
	 * row, which is that of list[row.group].
	 */
	struct tproxy_rules rules;
	/* Parallel arrays, sorted by address, then by length: keys and values of map_sets[i]. */
	struct tproxy_prefix *prefixes;
	struct tproxy_set_bits *bits;
	size_t n_prefixes;
	struct rules_rule *list; /* by group */
	size_t n_rules;
	struct rules_rule by_default; /* its line is 0 if the file has none */
	struct rules_set sets[TPROXY_SETS_MAX];
	size_t n_sets;
	bool names_loopback; /* some rule does: TPROXY_RULES_LOOPBACK */
	bool has_udp;	     /* some rule is about UDP */
	bool has_observe;    /* some rule, or the default, has the action observe */
	struct rules_messages messages;
};

/*
 * Keeps the name of an upstream in rules->upstreams. Returns 0, or -ENOSPC if the rules name too
 * many.
 */
int rules_keep_upstream(struct tproxy_rules *rules, const char *name);
/* Returns the name of the upstream with this id, or NULL. */
const char *rules_find_upstream(const struct tproxy_rules *rules, uint32_t id);

/*
 * Reads and compiles a file. Returns 0, -EINVAL if the file has errors, or another -errno if it
 * cannot be read or memory is short. The messages tell the reason in each case, and have notes
 * after success. Nothing is logged. The caller calls rules_compiled_finish(), after a failure too.
 */
int rules_compile_file(const char *path, const struct rules_options *options,
		       struct rules_compiled *ret_compiled);
void rules_compiled_finish(struct rules_compiled *compiled);

#endif
