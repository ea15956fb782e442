/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Remembers addresses that the block list passes, so that the packets of a connection search a trie
 * once and not each time. Pure: no map, no helper call, no context.
 *
 * An address is remembered with the number of changes of the list (tproxy_block.changes) under
 * which a look-up passed it. The hooks read that number together with the state, and believe only
 * what was remembered under the same number. So each change of the list makes them forget
 * everything. Time changes nothing: an entry that ends blocks no more. Only addresses without an
 * entry are remembered, because all others are counted in their entry.
 *
 * An address has one place, by its hash, in a table of its family, and replaces the address that
 * was there. All CPUs share the tables, without locks. A place of IPv4 is one word, which is
 * written and read at once. A place of IPv6 has three words and is a seqlock: tag is odd while a
 * CPU writes the address, and different afterwards. A CPU that finds it odd does not wait.
 *
 * The number 0 remembers nothing: an empty table has zeros.
 */
#ifndef TPROXY_PASSED_BPF_H
#define TPROXY_PASSED_BPF_H

#include <stdbool.h>
#include <linux/types.h>

#include "block.bpf.h"
#include "tproxy_abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define PASSED4_BITS 12 /* 32 KiB */
#define PASSED6_BITS 10 /* 32 KiB */

struct passed6 {
	__u64 tag; /* high half: number of changes; low half: counts writes, and is odd meanwhile */
	__u64 addr[2];
	__u64 reserved;
};

static __u64 passed4[1 << PASSED4_BITS]; /* high half: number of changes; low half: address */
static struct passed6 passed6[1 << PASSED6_BITS];

/*
 * Orders the reads before it and those after it. Before 6.15, which has load-acquire, only atomic
 * instructions that return a value are barriers in BPF.
 */
static __always_inline void passed_barrier(void)
{
	__u32 word = 0, before;

	before = __sync_fetch_and_add(&word, 1);
	__asm__ volatile("" : : "r"(before));
}

static __always_inline __u32 passed_hash(__u32 value, int bits)
{
	return value * 2654435761U >> (32 - bits);
}

/* address: its last four bytes. */
static __always_inline volatile __u64 *passed4_place(__u32 address)
{
	return &passed4[passed_hash(address, PASSED4_BITS)];
}

static __always_inline struct passed6 *passed6_place(const __u64 *addr)
{
	const __u64 both = addr[0] ^ (addr[1] << 1 | addr[1] >> 63);

	return &passed6[passed_hash((__u32)both ^ (__u32)(both >> 32), PASSED6_BITS)];
}

static __always_inline bool passed4_has(__u32 changes, __u32 address)
{
	return *passed4_place(address) == ((__u64)changes << 32 | address);
}

static __always_inline void passed4_add(__u32 changes, __u32 address)
{
	*passed4_place(address) = (__u64)changes << 32 | address;
}

static __always_inline bool passed6_has(__u32 changes, const __u64 *addr)
{
	const volatile struct passed6 *place = passed6_place(addr);
	const __u64 tag = place->tag;
	bool same;

	if (tag >> 32 != changes || tag & 1)
		return false;
	passed_barrier();
	same = place->addr[0] == addr[0] && place->addr[1] == addr[1];
	passed_barrier();
	return same && place->tag == tag;
}

static __always_inline void passed6_add(__u32 changes, const __u64 *addr)
{
	struct passed6 *place = passed6_place(addr);
	volatile __u64 *words = place->addr;
	const __u64 tag = *(volatile __u64 *)&place->tag;

	if (tag & 1 || __sync_val_compare_and_swap(&place->tag, tag, tag | 1) != tag)
		return;
	words[0] = addr[0];
	words[1] = addr[1];
	/* With a barrier, which a plain store would not have. */
	__sync_val_compare_and_swap(&place->tag, tag | 1, (__u64)changes << 32 | (__u32)(tag + 2));
}

static __always_inline void passed_words(const struct tproxy_prefix *key, __u64 *ret_addr)
{
	__builtin_memcpy(ret_addr, key->addr, sizeof(key->addr));
}

static __always_inline __u32 passed_last_word(const struct tproxy_prefix *key)
{
	__u32 word;

	__builtin_memcpy(&word, &key->addr[12], sizeof(word));
	return word;
}

/* Returns true if a look-up passed the address under this number of changes. */
static __always_inline bool passed_has(__u32 changes, const struct tproxy_prefix *key)
{
	__u64 addr[2];

	if (!changes)
		return false;
	if (block_is_mapped4(key))
		return passed4_has(changes, passed_last_word(key));
	passed_words(key, addr);
	return passed6_has(changes, addr);
}

/* changes: the number that was read before the look-up, with a barrier in between. */
static __always_inline void passed_add(__u32 changes, const struct tproxy_prefix *key)
{
	__u64 addr[2];

	if (!changes)
		return;
	if (block_is_mapped4(key)) {
		passed4_add(changes, passed_last_word(key));
		return;
	}
	passed_words(key, addr);
	passed6_add(changes, addr);
}

#endif
