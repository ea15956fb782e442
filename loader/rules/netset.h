/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * List files, as block lists are published: an address, a CIDR or a range "a-b" in each line, blank
 * lines, comments that begin with '#' or ';'.
 */
#ifndef TPROXY_RULES_NETSET_H
#define TPROXY_RULES_NETSET_H

#include <stddef.h>

struct prefixes;
struct source;

struct netset_counts {
	size_t n_masked;   /* entries whose bits beyond the length were cleared */
	size_t n_loopback; /* entries of loopback addresses, which were left out */
};

/*
 * Appends the prefixes of a list. A line with other text is skipped, and an error is added to the
 * messages of @source. Returns 0, or -ENOMEM.
 */
int netset_read(const struct source *source, struct prefixes *prefixes,
		struct netset_counts *ret_counts);

#endif
