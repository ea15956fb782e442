/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The choice of a relay's port: the one with the fewest connections, the lowest index first.
 * Sequential clients thus stay on one worker, which is awake; concurrent clients are spread over
 * all. Pure, and built by the host's compiler too, as decide.bpf.h is.
 */
#ifndef TPROXY_PORT_BPF_H
#define TPROXY_PORT_BPF_H

#include <stdbool.h>
#include <linux/types.h>

#include "endpoint.bpf.h"
#include "tproxy_abi.h"

/* Returns the index in map_loads of the relay with these ports. */
static inline __u16 port_loads_index(__u64 netns_cookie, const struct tproxy_listen *listen)
{
	return (netns_cookie * 31 + listen->ports[0]) % TPROXY_LOADS_MAX;
}

struct port_least {
	const __s32 *loads;
	__s32 load;
	__u32 index;
};

/* Compares port i with the least so far, which starts at the largest load and index 0. */
static inline long port_compare(__u32 i, struct port_least *least)
{
	__s32 load = least->loads[i % TPROXY_PORTS_MAX];

	if (load < least->load) {
		least->load = load;
		least->index = i;
	}
	return 0;
}

/* Returns the index of the port that is tried if the one at this index has no listener. */
static inline __u32 port_next(const struct tproxy_listen *listen, __u32 index)
{
	index++;
	return index < listen->n_ports && index < TPROXY_PORTS_MAX ? index : 0;
}

/*
 * True if this is the registered address of the relay, with one of its ports. A relay that listens
 * at 0.0.0.0 or :: is registered with the loopback address. A lookup finds its listener at every
 * address, also at those of other hosts, and could not tell the relay from them.
 */
static inline bool port_is_relays(const struct tproxy_listen *listen,
				  const struct tproxy_endpoint *ep)
{
	__u32 i;

	if (!endpoint_has_address(ep, listen->addr))
		return false;
	for (i = 0; i < TPROXY_PORTS_MAX && i < listen->n_ports; i++) {
		if (listen->ports[i] == ep->port)
			return true;
	}
	return false;
}

#endif
