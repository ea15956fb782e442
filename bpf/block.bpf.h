/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The block list: the look-up of one address. Pure: no map, no helper call, no context. The
 * includer defines block_lookup() and block_now(). The kernel half, tests/unit and `tproxyctl
 * explain` build the same code, so explain gives the kernel's answer.
 *
 * An address is blocked if the block trie has an entry for it and the allow trie has none. Which of
 * the two entries is longer does not matter. The longest entry of a trie decides there. If it has
 * ended, the look-up goes on with the next shorter one.
 */
#ifndef TPROXY_BLOCK_BPF_H
#define TPROXY_BLOCK_BPF_H

#include <stdbool.h>
#include <linux/errno.h>
#include <linux/types.h>

#include "tproxy_abi.h"
#include "verifier.bpf.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

enum block_verdict {
	BLOCK_PASS,
	BLOCK_ALLOWED, /* blocked, and allowed all the same */
	BLOCK_DROP,
};

/* The tries of the list in force. Opaque here. */
struct block_tries {
	void *block;
	void *allow; /* NULL: the list has no allow entries */
};

#define BLOCK_ERRNO_MAX 4095

/* Returns the errno of a connect() that this list blocks. state: as read once from the list. */
static __always_inline __u32 block_error_of(const struct tproxy_block *block, __u32 state)
{
	const __u32 error = block->slots[state & TPROXY_BLOCK_SLOT ? 1 : 0].error;

	return error && error <= BLOCK_ERRNO_MAX ? error : EACCES;
}

/* Bits of the prefix of all IPv4-mapped addresses. */
#define BLOCK_MAPPED4_BITS 96

/* Returns the longest entry of a trie that contains the key, or NULL. */
static __always_inline struct tproxy_block_entry *block_lookup(void *trie,
							       const struct tproxy_prefix *key);

/* Returns the time that ends_ns is compared with. Called only if an entry has an end. */
static __always_inline __u64 block_now(void);

static __always_inline bool block_is_mapped4(const struct tproxy_prefix *key)
{
	static const __u8 mapped[4] = { 0, 0, 0xff, 0xff };
	__u32 words[3], last;

	__builtin_memcpy(words, key->addr, sizeof(words));
	__builtin_memcpy(&last, mapped, sizeof(last));
	return (words[0] | words[1]) == 0 && words[2] == last;
}

/* Returns the entry that decides, or NULL. key->n_bits is changed. */
static __always_inline struct tproxy_block_entry *block_find(void *trie, struct tproxy_prefix *key)
{
	struct tproxy_block_entry *entry;
	__u32 n_bits_min, unknown;
	int i;

	/* Otherwise the verifier would walk through the loop once for each family. */
	__builtin_memcpy(&unknown, key->addr, sizeof(unknown));
	n_bits_min =
		(__u32)verifier_forget(block_is_mapped4(key) ? BLOCK_MAPPED4_BITS : 0, unknown);
	key->n_bits = 128;
	for (i = 0; i <= TPROXY_BLOCK_ENDED_MAX; i++) {
		entry = block_lookup(trie, key);
		if (!entry || entry->n_bits < n_bits_min)
			return NULL;
		if (!entry->ends_ns || block_now() < entry->ends_ns)
			return entry;
		if (!entry->n_bits)
			return NULL;
		key->n_bits = entry->n_bits - 1;
	}
	return NULL;
}

/* Returns the verdict on an address. *ret_entry is the entry that counts it; NULL for PASS. */
static __always_inline enum block_verdict block_decide(const struct block_tries *tries,
						       struct tproxy_prefix *key,
						       struct tproxy_block_entry **ret_entry)
{
	struct tproxy_block_entry *allow = NULL;

	*ret_entry = block_find(tries->block, key);
	if (!*ret_entry)
		return BLOCK_PASS;
	if (tries->allow)
		allow = block_find(tries->allow, key);
	if (!allow)
		return BLOCK_DROP;
	*ret_entry = allow;
	return BLOCK_ALLOWED;
}

#endif
