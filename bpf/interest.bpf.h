/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a hook has more to do for a connection than to redirect it: rules may observe it
 * (observe.bpf.h), or a watcher wants to hear of it (watch.bpf.h). Mostly the answer is no, and
 * costs one read of map_interest, an array of one entry.
 */
#ifndef TPROXY_INTEREST_BPF_H
#define TPROXY_INTEREST_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.bpf.h"
#include "tproxy_abi.h"

/* Never NULL, but the verifier demands the test. */
static __always_inline struct tproxy_interest *get_interest(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&map_interest, &key);
}

/* True if is_observing() or is_watched() may be: the first test of a hook that runs for all. */
static __always_inline bool has_interest(void)
{
	const struct tproxy_interest *interest = get_interest();

	return interest && (interest->watching | interest->observed_s);
}

/* True if map_observed may have entries. */
static __always_inline bool is_observing(void)
{
	const struct tproxy_interest *interest = get_interest();

	return interest && interest->observed_s;
}

/* True if there is a watcher. */
static __always_inline bool is_watched(void)
{
	const struct tproxy_interest *interest = get_interest();

	return interest && interest->watching;
}

#endif
