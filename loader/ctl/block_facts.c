// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl explain. See block_facts.h. Nothing is counted. */
#include "block_facts.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "block.bpf.h"
#include "monotonic.h"
#include "rules/prefix.h"

/* A trie as block.bpf.h sees it. */
struct trie {
	int fd;
	int error; /* -errno of a look-up that failed; 0: none did */
	struct tproxy_block_entry entry;
};

static struct tproxy_block_entry *block_lookup(void *opaque, const struct tproxy_prefix *key)
{
	struct trie *trie = opaque;
	int r = bpf_map_lookup_elem(trie->fd, key, &trie->entry);

	if (r < 0 && r != -ENOENT)
		trie->error = r;
	return r < 0 ? NULL : &trie->entry;
}

static __u64 block_now(void)
{
	return monotonic_kernel_ns();
}

int block_facts_find(const struct block_facts_maps *maps, const struct tproxy_endpoint *dst,
		     struct block_facts *ret)
{
	struct trie block = { .fd = maps->block }, allow = { .fd = maps->allow };
	const struct block_tries tries = { &block, maps->allow < 0 ? NULL : &allow };
	struct tproxy_block_entry *entry;
	enum block_verdict verdict;

	*ret = (struct block_facts){};
	memcpy(ret->prefix.addr, dst->addr, sizeof(ret->prefix.addr));
	verdict = block_decide(&tries, &ret->prefix, &entry);
	if (block.error || allow.error)
		return block.error ? block.error : allow.error;
	ret->listed = verdict != BLOCK_PASS;
	ret->allowed = verdict == BLOCK_ALLOWED;
	if (ret->listed) {
		ret->prefix.n_bits = entry->n_bits;
		prefix_mask(&ret->prefix);
	}
	return 0;
}

__u32 block_facts_error(const struct tproxy_block *block, __u32 state)
{
	return block_error_of(block, state);
}
