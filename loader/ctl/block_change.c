// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl block CIDR..., allow and unblock: changes of single entries, in place. See block.h. All
 * prefixes of a command are read before anything changes.
 */
#include "block.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/safety.h"
#include "host/json.h"
#include "log.h"
#include "monotonic.h"
#include "options.h"
#include "parse.h"
#include "rules/prefix.h"
#include "util.h"

#define NS_PER_MS UINT64_C(1000000)

static const char *plural(size_t n)
{
	return n == 1 ? "entry" : "entries";
}

/*
 * Completes the entries: the comment, or that of the entry that is renewed. *ret_renewed is the
 * number of entries that exist.
 */
static int complete(struct block_store *store, const struct ctl_options *options,
		    enum tproxy_block_kind kind, struct block_items *items, size_t *ret_renewed)
{
	struct tproxy_block_entry old;
	__u16 comment = 0;
	size_t i;
	int r;

	*ret_renewed = 0;
	r = block_store_text(store, options->comment, &comment);
	for (i = 0; i < items->n && r >= 0; i++) {
		struct block_item *item = &items->list[i];

		r = block_store_get(store, kind, &item->prefix, &old);
		item->entry.comment = r > 0 && !options->has_comment ? old.comment : comment;
		*ret_renewed += r > 0;
	}
	return r < 0 ? r : 0;
}

static bool has_other_than_hosts(const struct block_items *items)
{
	size_t i = 0;

	while (i < items->n && items->list[i].prefix.n_bits == PREFIX_BITS_MAX)
		i++;
	return i < items->n;
}

static bool has_wide(const struct block_items *items)
{
	size_t i = 0;

	while (i < items->n && !block_safety_is_wide(&items->list[i].prefix))
		i++;
	return i < items->n;
}

/* Adds the entries of a trie that contain these prefixes. */
static int add_around(const struct block_store *store, enum tproxy_block_kind kind,
		      const struct block_items *of, struct block_items *items)
{
	struct tproxy_block_entry entry;
	struct tproxy_prefix at;
	size_t i;
	int r = 0;

	for (i = 0; i < of->n && r >= 0; i++) {
		at = of->list[i].prefix;
		while (at.n_bits && r >= 0) {
			at.n_bits--;
			prefix_mask(&at);
			r = block_store_around(store, kind, &at, 0, &at, &entry);
			if (r <= 0)
				break;
			r = block_items_add(items, &at, &entry) < 0 ? log_out_of_memory() : 0;
		}
	}
	return r < 0 ? r : 0;
}

/*
 * Reads the entries that matter for the checks, and adds the new ones: those that contain new ones,
 * or all if a new prefix is wide, or may contain timed ones.
 */
static int read_for_checks(struct block_store *store, enum tproxy_block_kind kind,
			   const struct block_items *new, struct block_items *ret_items)
{
	const bool timed = new->n &&new->list[0].entry.ends_ns;
	size_t i;
	int r = 0;

	if (has_wide(new) || (timed && has_other_than_hosts(new)))
		r = block_store_read_kind(store, kind, ret_items);
	else if (timed)
		r = add_around(store, kind, new, ret_items);
	for (i = 0; i < new->n &&r == 0; i++)
		r = block_items_add(ret_items, &new->list[i].prefix, &new->list[i].entry) < 0
			    ? log_out_of_memory()
			    : 0;
	block_items_sort(ret_items);
	return r;
}

/* Puts the peer of the ssh session, if block_guard() has added it to the list. */
static int put_peer(struct block_store *store, const struct block_items *allows)
{
	struct tproxy_block_entry old;
	struct block_items peer = {};
	size_t i;
	int r = 0;

	for (i = 0; i < allows->n && r == 0; i++) {
		const struct block_item *item = &allows->list[i];

		if (!(item->entry.flags & TPROXY_BLOCK_BY_SAFETY))
			continue;
		r = block_store_get(store, TPROXY_ALLOW, &item->prefix, &old);
		if ((r == 0 || (r > 0 && old.ends_ns)) &&
		    block_items_add(&peer, &item->prefix, &item->entry) < 0)
			r = log_out_of_memory();
		r = r < 0 ? r : 0;
	}
	if (r == 0)
		r = block_store_put(store, TPROXY_ALLOW, &peer);
	free(peer.list);
	return r;
}

/* Checks new entries of the block trie, and puts the peer of the ssh session into the other one. */
static int check_blocks(struct block_store *store, const struct ctl_options *options,
			const struct block_items *items, uint64_t now)
{
	struct block_list list = {};
	int r;

	r = read_for_checks(store, TPROXY_BLOCK, items, &list.kinds[TPROXY_BLOCK]);
	if (r == 0)
		r = block_check_depth(&list.kinds[TPROXY_BLOCK]);
	if (r == 0)
		r = block_guard_shape(&list.kinds[TPROXY_BLOCK], TPROXY_BLOCK);
	if (r == 0)
		r = block_store_read_kind(store, TPROXY_ALLOW, &list.kinds[TPROXY_ALLOW]);
	if (r == 0)
		r = block_guard(store, options, &list, now);
	if (r > 0)
		r = put_peer(store, &list.kinds[TPROXY_ALLOW]);
	block_list_finish(&list);
	return r;
}

static int check_allows(struct block_store *store, const struct ctl_options *options,
			const struct block_items *items, uint64_t now)
{
	struct block_items all = {};
	int r;

	r = read_for_checks(store, TPROXY_ALLOW, items, &all);
	if (r == 0)
		r = block_check_depth(&all);
	if (r == 0)
		r = block_guard_shape(&all, TPROXY_ALLOW);
	if (r == 0 && options->for_ms)
		r = block_guard_lost(store, options, items, /* blocks_too= */ false, now);
	free(all.list);
	return r;
}

/* Warns about blocked prefixes that pass all the same. */
static void warn_allowed(const struct block_store *store, const struct block_items *items,
			 uint64_t now)
{
	char text[PREFIX_FORMAT_LEN], allowed[PREFIX_FORMAT_LEN];
	struct tproxy_block_entry entry;
	struct tproxy_prefix around;
	size_t i;

	for (i = 0; i < items->n; i++) {
		if (block_store_around(store, TPROXY_ALLOW, &items->list[i].prefix, now, &around,
				       &entry) > 0)
			log_warning("%s passes all the same, because %s is allowed",
				    prefix_format(&items->list[i].prefix, text, sizeof(text)),
				    prefix_format(&around, allowed, sizeof(allowed)));
	}
}

static void print_added(const struct ctl_options *options, enum tproxy_block_kind kind,
			const struct block_store *store, size_t n, size_t renewed)
{
	const struct tproxy_block_slot *facts = block_store_facts(store);
	_cleanup_(json_put) struct json_object *root = NULL;
	char time[FORMAT_DURATION_LEN + 8] = "", duration[FORMAT_DURATION_LEN];

	if (options->for_ms)
		snprintf(time, sizeof(time), " for %s",
			 format_duration_ms(options->for_ms, duration));
	if (!options->json) {
		printf("%s %zu %s%s", kind == TPROXY_BLOCK ? "blocked" : "allowed", n, plural(n),
		       time);
		if (renewed)
			printf(", %zu of them renewed", renewed);
		printf("; the list blocks %u and allows %u\n", facts->n_entries[TPROXY_BLOCK],
		       facts->n_entries[TPROXY_ALLOW]);
		return;
	}
	root = json_new_document();
	json_add_number(root, "entries", n);
	json_add_number(root, "renewed", renewed);
	json_add_number(root, "blocked", facts->n_entries[TPROXY_BLOCK]);
	json_add_number(root, "allowed", facts->n_entries[TPROXY_ALLOW]);
	json_print(root);
}

static int add(const struct ctl_options *options, enum tproxy_block_kind kind,
	       struct block_items *items, uint64_t now)
{
	_cleanup_(block_work_end) struct block_work work = BLOCK_WORK_NULL;
	size_t ended, renewed = 0;
	int r;

	r = block_work_begin_free(options->pin_dir, &work);
	if (r == 0)
		r = block_store_purge(&work.store, now, &ended);
	if (r == 0)
		r = complete(&work.store, options, kind, items, &renewed);
	if (r == 0)
		r = kind == TPROXY_BLOCK ? check_blocks(&work.store, options, items, now)
					 : check_allows(&work.store, options, items, now);
	if (r < 0)
		return r;
	if (options->error)
		block_store_set_error(&work.store, options->error);
	r = block_store_put(&work.store, kind, items);
	if (r < 0)
		return r;
	if (kind == TPROXY_BLOCK)
		warn_allowed(&work.store, items, now);
	print_added(options, kind, &work.store, items->n, renewed);
	return 0;
}

int block_add(const struct ctl_options *options, enum tproxy_block_kind kind)
{
	const uint64_t now = monotonic_kernel_ns();
	const struct tproxy_block_entry like = {
		.ends_ns = options->for_ms ? now + options->for_ms * NS_PER_MS : 0,
	};
	struct block_items items = {};
	int status = block_operands(options, &like, &items);

	if (!status)
		status = add(options, kind, &items, now) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	free(items.list);
	return status;
}

/* Fails if a wider entry blocks the prefix, which has no entry of its own. */
static int check_wider(const struct block_store *store, const struct tproxy_prefix *prefix,
		       uint64_t now)
{
	char text[PREFIX_FORMAT_LEN], wider[PREFIX_FORMAT_LEN], option[PINS_OPTION_LEN];
	struct tproxy_block_entry entry;
	struct tproxy_prefix around;

	if (block_store_around(store, TPROXY_BLOCK, prefix, now, &around, &entry) <= 0 ||
	    block_store_around(store, TPROXY_ALLOW, prefix, now, &around, &entry) != 0)
		return 0;
	block_store_around(store, TPROXY_BLOCK, prefix, now, &around, &entry);
	prefix_format(prefix, text, sizeof(text));
	prefix_format(&around, wider, sizeof(wider));
	pins_format_option(store->pins->path, option);
	log_err("%s is still blocked, by %s; let it pass with: tproxyctl allow %s%s; or remove the wider entry: tproxyctl unblock %s%s",
		text, wider, text, option, wider, option);
	return -EEXIST;
}

/* Fails if one of the prefixes has no entry. Otherwise says whether --apply brought one of them. */
static int check_there(const struct block_store *store, const struct block_items *items,
		       uint64_t now, bool *ret_by_file)
{
	char text[PREFIX_FORMAT_LEN];
	enum tproxy_block_kind kind;
	size_t i;

	for (i = 0; i < items->n; i++) {
		const struct tproxy_prefix *prefix = &items->list[i].prefix;
		bool there = false;

		for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX; kind++) {
			struct tproxy_block_entry entry;
			int r = block_store_get(store, kind, prefix, &entry);

			if (r < 0)
				return r;
			there |= r > 0;
			*ret_by_file |= r > 0 && entry.flags & TPROXY_BLOCK_BY_FILE;
		}
		if (there)
			continue;
		if (check_wider(store, prefix, now) == 0)
			log_err("%s is not in the list%s",
				prefix_format(prefix, text, sizeof(text)),
				items->n > 1 ? ", so nothing was removed" : "");
		return -ENOENT;
	}
	return 0;
}

/* All prefixes have an entry. */
static int remove_items(struct block_store *store, const struct block_items *items, uint64_t now,
			size_t *ret_n)
{
	size_t i, n = 0, n_allows = 0;
	int r, left = 0;

	r = block_store_remove(store, TPROXY_BLOCK, items, &n);
	if (r == 0)
		r = block_store_remove(store, TPROXY_ALLOW, items, &n_allows);
	*ret_n = n + n_allows;
	for (i = 0; i < items->n && r == 0; i++) {
		if (check_wider(store, &items->list[i].prefix, now) < 0)
			left = -EEXIST;
	}
	return r < 0 ? r : left;
}

static void print_removed(const struct ctl_options *options, const struct block_store *store,
			  size_t n)
{
	const struct tproxy_block_slot *facts = block_store_facts(store);
	_cleanup_(json_put) struct json_object *root = NULL;

	if (!options->json) {
		printf("removed %zu %s; the list blocks %u and allows %u\n", n, plural(n),
		       facts->n_entries[TPROXY_BLOCK], facts->n_entries[TPROXY_ALLOW]);
		return;
	}
	root = json_new_document();
	json_add_number(root, "removed", n);
	json_add_number(root, "blocked", facts->n_entries[TPROXY_BLOCK]);
	json_add_number(root, "allowed", facts->n_entries[TPROXY_ALLOW]);
	json_print(root);
}

static int unblock(const struct ctl_options *options, const struct block_items *items)
{
	_cleanup_(block_work_end) struct block_work work = BLOCK_WORK_NULL;
	const uint64_t now = monotonic_kernel_ns();
	size_t n = 0, ended;
	bool by_file = false;
	int r;

	r = block_work_begin_free(options->pin_dir, &work);
	if (r == 0)
		r = block_store_purge(&work.store, now, &ended);
	if (r == 0)
		r = check_there(&work.store, items, now, &by_file);
	if (r == 0)
		r = block_guard_lost(&work.store, options, items, /* blocks_too= */ true, now);
	if (r < 0)
		return r;
	r = remove_items(&work.store, items, now, &n);
	if (by_file)
		log_info(
			"an entry that --apply brought comes back with the next --apply of a file that has it");
	print_removed(options, &work.store, n);
	return r;
}

int block_unblock(const struct ctl_options *options)
{
	const struct tproxy_block_entry like = {};
	struct block_items items = {};
	int status = block_operands(options, &like, &items);

	if (!status)
		status = unblock(options, &items) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	free(items.list);
	return status;
}
