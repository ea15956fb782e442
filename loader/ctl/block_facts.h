/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the block list says about a destination, by the code of the kernel half (block.bpf.h). */
#ifndef TPROXY_CTL_BLOCK_FACTS_H
#define TPROXY_CTL_BLOCK_FACTS_H

#include <stdbool.h>

#include "tproxy_abi.h"

/* Maps that are open: those of the slot in use. allow is -1 if the list has no allow entries. */
struct block_facts_maps {
	int block, allow;
};

struct block_facts {
	bool listed;		     /* the list has an entry for the address */
	bool allowed;		     /* and an allow entry too, which wins */
	struct tproxy_prefix prefix; /* of the entry that decides, if it is listed */
};

/* Looks an address up. Returns 0 or -errno of a map that cannot be read. */
int block_facts_find(const struct block_facts_maps *maps, const struct tproxy_endpoint *dst,
		     struct block_facts *ret);

/* Returns the errno of connect() to a blocked address, as the kernel half does. */
__u32 block_facts_error(const struct tproxy_block *block, __u32 state);

#endif
