/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the lines of [names] decide for a connection. Pure.
 *
 * A client can claim any name. A line with `refuse` believes it. A line that permits something
 * needs more: the upstream gets the name in place of the address (send-name), so a false name leads
 * elsewhere; or the destination's address is one of the name's. The pattern * with `via` needs
 * neither, because it depends on no name.
 *
 * The name in a hello with ECH may stand for another one. It is not handed on, and lines that
 * permit something for certain names do not apply. With upstreams_conf::sniff_ech they apply if the
 * address is one of the name's.
 */
#ifndef TPROXY_NAME_POLICY_H
#define TPROXY_NAME_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "sniffed.h"

struct upstream;
struct upstreams;

/* Whether the destination's address is one of the name's. */
enum name_address {
	NAME_ADDRESS_UNKNOWN,
	NAME_ADDRESS_OF_NAME,
	NAME_ADDRESS_OTHER,
};

enum name_verdict {
	NAME_VERDICT_NONE,     /* no line decides */
	NAME_VERDICT_ASK,      /* it depends on the address: ask the resolver, and decide again */
	NAME_VERDICT_UPSTREAM, /* through name_decision::upstream; for `direct`, the built-in one */
	NAME_VERDICT_REFUSE,   /* with name_decision::error */
};

struct name_decision {
	enum name_verdict verdict;
	struct upstream *upstream; /* of the set */
	int error;
	unsigned int line; /* in the file */
};

/* Decides. sniffed has a name. */
void name_policy(const struct upstreams *set, const struct sniffed *sniffed,
		 enum name_address address, struct name_decision *ret);

/*
 * True if the name is needed before the connection is made: there are lines, or the upstream gets
 * the name. upstream: of the route without a name; NULL: the original destination.
 */
bool name_policy_needs_name(const struct upstreams *set, const struct upstream *upstream);

#endif
