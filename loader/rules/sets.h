/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sets of a generation: which list of addresses has which bit of tproxy_set_bits, and the
 * prefixes of all of them as map_sets has them. Lists that are equal share a bit. A list that
 * consists of one named set has that set's bit.
 */
#ifndef TPROXY_RULES_SETS_H
#define TPROXY_RULES_SETS_H

#include <stdbool.h>
#include <stddef.h>

#include "parsed.h"
#include "tproxy_abi.h"

struct sets {
	const struct parsed *parsed;
	/* By bit. A set without a name is a list of a rule; one with a name has list NULL. */
	struct {
		const struct parsed_list *list;
		size_t named; /* index in parsed->sets */
	} bits[TPROXY_SETS_MAX];
	size_t n;
	/* By index in parsed->sets: the bits of all lists that have this set. */
	struct tproxy_set_bits of_named[TPROXY_SETS_MAX];
};

void sets_init(struct sets *sets, const struct parsed *parsed);

/* Returns the bit of a list, or -ENOSPC if there are TPROXY_SETS_MAX already. */
int sets_bit_of(struct sets *sets, const struct parsed_list *list);

/* Returns the number of prefixes that a set was given. */
size_t sets_count(const struct sets *sets, size_t bit);

struct sets_prefixes {
	struct tproxy_prefix *prefixes;
	struct tproxy_set_bits *bits;
	size_t n;
	bool names_loopback;
};

/*
 * Makes the sorted array of prefixes. Each prefix has the bits of all sets that contain it. A
 * prefix with the same bits as the shorter prefix around it is left out. Returns 0 or -ENOMEM. The
 * caller frees both arrays.
 */
int sets_compile(const struct sets *sets, struct sets_prefixes *ret);

#endif
