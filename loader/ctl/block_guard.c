// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl block, unblock and allow: checks that keep users from locking themselves out, see
 * block.h.
 * An address can become blocked in two ways: a new list or a new entry blocks it (block_guard()),
 * or the allow entry that protected it goes or gets an end (block_guard_lost()).
 */
#include "block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/safety.h"
#include "host/gateways.h"
#include "host/ssh_peer.h"
#include "log.h"
#include "options.h"
#include "rules/prefix.h"
#include "util.h"

/* Allows the peer in @list if it is blocked there. Returns 1 if it was added, 0, or -errno. */
static int allow_peer(struct block_store *store, struct block_list *list, uint64_t now)
{
	struct tproxy_block_entry entry = { .flags = TPROXY_BLOCK_BY_SAFETY };
	struct tproxy_prefix host = { .n_bits = PREFIX_BITS_MAX };
	char peer_text[PREFIX_FORMAT_LEN], blocked[PREFIX_FORMAT_LEN], option[PINS_OPTION_LEN];
	const struct block_item *item;
	struct ssh_peer peer;
	int r;

	if (!ssh_peer_find(&peer))
		return 0;
	item = block_safety_blocks(list, peer.addr.addr, now);
	if (!item)
		return 0;
	memcpy(host.addr, peer.addr.addr, sizeof(host.addr));
	prefix_format(&host, peer_text, sizeof(peer_text));
	prefix_format(&item->prefix, blocked, sizeof(blocked));
	r = block_store_text(store, "peer of an ssh session", &entry.comment);
	if (r < 0)
		return r;
	if (block_items_add(&list->kinds[TPROXY_ALLOW], &host, &entry) < 0)
		return log_out_of_memory();
	block_items_sort(&list->kinds[TPROXY_ALLOW]);
	log_info(
		"%s, from where this ssh session comes, is in %s and stays allowed (--no-safety blocks it too; tproxyctl unblock --no-safety %s%s takes this back)",
		peer_text, blocked, peer_text, pins_format_option(store->pins->path, option));
	if (!peer.alive)
		log_warning(
			"no connection from %s is open now: if the session came from elsewhere since, allow that address",
			peer_text);
	return 1;
}

static void log_no_gateways(int r)
{
	log_warning("cannot read the default gateways, so the list may block them: %s",
		    strerror(-r));
}

int block_guard(struct block_store *store, const struct ctl_options *options,
		struct block_list *list, uint64_t now)
{
	_cleanup_free_ struct gateway *gateways = NULL;
	char why[BLOCK_SAFETY_LEN];
	size_t n = 0;
	int r;

	if (!options->force) {
		r = gateways_read(&gateways, &n);
		if (r < 0)
			log_no_gateways(r);
		if (block_safety_cuts_off(list, gateways, n, now, why)) {
			log_err("%s; --force does it all the same", why);
			return -EPERM;
		}
	}
	return options->no_safety ? 0 : allow_peer(store, list, now);
}

int block_guard_shape(const struct block_items *items, enum tproxy_block_kind kind)
{
	const struct block_item *all = kind == TPROXY_ALLOW ? block_items_all(items) : NULL;
	char text[PREFIX_FORMAT_LEN];

	if (all) {
		log_err("%s would allow all addresses, so that nothing is blocked; remove the blocked entries instead",
			prefix_format(&all->prefix, text, sizeof(text)));
		return -EINVAL;
	}
	if (block_items_too_nested(items)) {
		log_err("the entries would part at each of the 128 bits of one address, which Linux before 6.12 cannot read; leave one of them out");
		return -EINVAL;
	}
	return 0;
}

/* The change of which block_guard_lost() is asked. */
struct loss {
	const struct block_store *store;
	const struct block_items *lost;
	struct block_items before, after; /* allow entries */
	bool blocks_too;
	uint64_t now;
};

/*
 * Finds the entry that blocks an address once the lost ones are gone. Returns 1, 0 if there is
 * none, or -errno, logged.
 */
static int find_block(const struct loss *l, const __u8 addr[16], struct tproxy_prefix *ret_prefix)
{
	struct tproxy_prefix at = { .n_bits = PREFIX_BITS_MAX };
	struct tproxy_block_entry entry;
	unsigned int least;
	int r;

	memcpy(at.addr, addr, sizeof(at.addr));
	least = prefix_is_ipv4(&at) ? PREFIX_IPV4_BITS : 0;
	for (;;) {
		r = block_store_around(l->store, TPROXY_BLOCK, &at, l->now, &at, &entry);
		if (r <= 0)
			return r;
		if (!l->blocks_too || !block_items_find(l->lost, &at)) {
			*ret_prefix = at;
			return 1;
		}
		if (at.n_bits == least)
			return 0;
		at.n_bits--;
		prefix_mask(&at);
	}
}

/* Refuses if the address is blocked once the lost entries are gone, and was not so far. */
static int check_address(const struct loss *l, const __u8 addr[16], const char *what,
			 const char *option)
{
	char text[PREFIX_FORMAT_LEN], blocked[PREFIX_FORMAT_LEN];
	struct tproxy_prefix host = { .n_bits = PREFIX_BITS_MAX }, prefix;
	int r;

	if (!block_safety_allows(&l->before, addr) || block_safety_allows(&l->after, addr))
		return 0;
	r = find_block(l, addr, &prefix);
	if (r <= 0)
		return r;
	memcpy(host.addr, addr, sizeof(host.addr));
	log_err("%s would block %s %s, which no other entry without an end allows; %s does it all the same",
		prefix_format(&prefix, blocked, sizeof(blocked)), what,
		prefix_format(&host, text, sizeof(text)), option);
	return -EPERM;
}

static int check_gateways(const struct loss *l)
{
	_cleanup_free_ struct gateway *gateways = NULL;
	size_t n = 0, i;
	int r;

	r = gateways_read(&gateways, &n);
	if (r < 0) {
		log_no_gateways(r);
		return 0;
	}
	for (i = 0; i < n && r == 0; i++)
		r = check_address(l, gateways[i].addr, "the default gateway", "--force");
	return r;
}

/* Reads the allow entries, and copies those that stay. */
static int read_allows(struct block_store *store, struct loss *l)
{
	size_t i;
	int r;

	r = block_store_read_kind(store, TPROXY_ALLOW, &l->before);
	for (i = 0; i < l->before.n && r == 0; i++) {
		const struct block_item *item = &l->before.list[i];

		if (!block_items_find(l->lost, &item->prefix))
			r = block_items_add(&l->after, &item->prefix, &item->entry) < 0
				    ? log_out_of_memory()
				    : 0;
	}
	return r;
}

int block_guard_lost(struct block_store *store, const struct ctl_options *options,
		     const struct block_items *lost, bool blocks_too, uint64_t now)
{
	struct loss l = { .store = store, .lost = lost, .blocks_too = blocks_too, .now = now };
	struct ssh_peer peer;
	int r;

	r = read_allows(store, &l);
	if (r == 0 && l.after.n < l.before.n && !options->force)
		r = check_gateways(&l);
	if (r == 0 && l.after.n < l.before.n && !options->no_safety && ssh_peer_find(&peer))
		r = check_address(&l, peer.addr.addr, "the peer of this ssh session",
				  "--no-safety");
	free(l.before.list);
	free(l.after.list);
	return r;
}
