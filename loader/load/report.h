/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What tproxy-load prints to stdout after a load or check: the state now, and the previous state
 * where it differs.
 */
#ifndef TPROXY_LOAD_REPORT_H
#define TPROXY_LOAD_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "tproxy_abi.h"
#include "withdraw.h"

struct load_options;
struct targets;

/* The state before this load. */
struct report_before {
	bool loaded;		    /* false: the other members are not set */
	struct tproxy_target *list; /* map_targets, freed by the owner; NULL: not known */
	size_t n;
	struct tproxy_policy policy;
	gid_t relay_gid;
};

/*
 * Prints the result of a load. @n_relays: how many relays are registered. @outside: those whose
 * registration the load withdrew.
 */
void report_load(const struct report_before *before, const struct targets *targets,
		 const struct tproxy_policy *policy, const struct load_options *options,
		 size_t n_relays, const struct withdrawn *outside);

/* Prints the result of --check. */
void report_check(const struct targets *targets, bool fail_closed, const char *pin_dir);

/* Returns true if relays are served in other cgroups than before. */
bool report_moved(const struct report_before *before, const struct targets *targets);

#endif
