// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl block --apply, --clear, --keep and --revert: whole lists. See block.h.
 *
 * --apply replaces the entries that earlier files brought by those of the files that it is given.
 * Entries of the command line stay. If both have the same prefix, the one that ends later stays. An
 * entry keeps its counts while the list has its prefix.
 */
#include "block.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/file.h"
#include "bpffs.h"
#include "confirm.h"
#include "host/json.h"
#include "log.h"
#include "monotonic.h"
#include "options.h"
#include "parse.h"
#include "rules/message.h"
#include "rules/prefix.h"
#include "state/wait_lock.h"
#include "util.h"

/* Progress is told when this time has passed, then as often. */
#define PROGRESS_MS 1000
/* Size of a trie's node in the kernel: struct lpm_trie_node with key and value, from a slab of 96.
 */
#define NODE_SIZE 96

/* What an --apply does. */
struct apply {
	const struct ctl_options *options;
	uint64_t now, began_ms, duration_ms;
	struct block_list files; /* their comments are indices of options->operands, plus 1 */
	struct block_list before, next;
	struct block_file_counts counts;
	size_t n_new, n_kept, n_removed;
	uint32_t generation;
};

static void on_progress(const char *what, size_t done, size_t n)
{
	static uint64_t told_ms;
	const uint64_t now_ms = monotonic_coarse_ms();

	if (!told_ms)
		told_ms = now_ms;
	if (now_ms - told_ms < PROGRESS_MS)
		return;
	told_ms = now_ms;
	log_info("%s %zu of %zu entries", what, done, n > done ? n : done);
}

static int read_files(struct apply *a)
{
	_cleanup_free_ struct rules_messages *messages = calloc(1, sizeof(*messages));
	const struct ctl_options *options = a->options;
	size_t i, kind;
	int r = messages ? 0 : -ENOMEM;

	for (i = 0; i < options->n_operands && r == 0; i++) {
		const struct tproxy_block_entry like = {
			.flags = TPROXY_BLOCK_BY_FILE,
			.comment = (__u16)(i < TPROXY_BLOCK_TEXTS_MAX ? i + 1 : 0),
		};

		r = block_file_read(options->operands[i], &like, a->now, &a->files, &a->counts,
				    messages);
	}
	if (!messages) {
		log_out_of_memory();
		return r;
	}
	rules_messages_print(messages, stderr);
	if (r == 0 && messages->n_errors)
		r = -EINVAL;
	rules_messages_finish(messages);
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX && r == 0; kind++)
		block_items_sort(&a->files.kinds[kind]);
	return r;
}

static void note_counts(const struct apply *a)
{
	const struct block_file_counts *counts = &a->counts;

	if (counts->n_masked)
		log_warning("%zu %s bits beyond %s length, which were cleared", counts->n_masked,
			    counts->n_masked == 1 ? "entry has" : "entries have",
			    counts->n_masked == 1 ? "its" : "their");
	if (counts->n_loopback)
		log_warning("%zu %s of loopback addresses %s left out: these always pass",
			    counts->n_loopback, counts->n_loopback == 1 ? "entry" : "entries",
			    counts->n_loopback == 1 ? "was" : "were");
}

/* A download that failed is an empty file, and an empty list blocks nothing. */
static int check_files(const struct apply *a)
{
	char option[PINS_OPTION_LEN];

	if (a->options->force || a->files.kinds[TPROXY_BLOCK].n || a->files.kinds[TPROXY_ALLOW].n)
		return 0;
	log_err("the input has no entry, so nothing changes; --force applies it all the same, and `tproxyctl block --clear%s` removes all entries",
		pins_format_option(a->options->pin_dir, option));
	return -ENODATA;
}

/* Gives the entries of files their comments: --comment, or the name of the file. */
static int set_comments(struct apply *a, struct block_store *store)
{
	const struct ctl_options *options = a->options;
	__u16 comments[TPROXY_BLOCK_TEXTS_MAX + 1] = {};
	size_t i, kind;
	int r = 0;

	for (i = 0; i < options->n_operands && i < TPROXY_BLOCK_TEXTS_MAX && r == 0; i++) {
		const char *slash = strrchr(options->operands[i], '/');
		const char *name = slash ? slash + 1 : options->operands[i];

		r = block_store_text(store, options->has_comment ? options->comment : name,
				     &comments[i + 1]);
	}
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX && r == 0; kind++) {
		struct block_items *items = &a->files.kinds[kind];

		for (i = 0; i < items->n; i++)
			items->list[i].entry.comment = comments[items->list[i].entry.comment];
	}
	return r;
}

static uint64_t end_of(const struct tproxy_block_entry *entry)
{
	return entry->ends_ns ? entry->ends_ns : UINT64_MAX;
}

/* Takes one entry of the list in force over into the next one, or not. */
static int take_old(struct apply *a, const struct block_item *old, struct block_item *new,
		    struct block_items *next)
{
	const bool by_file = old->entry.flags & TPROXY_BLOCK_BY_FILE;

	if (new) {
		a->n_kept++;
		new->entry.packets = old->entry.packets;
		new->entry.bytes = old->entry.bytes;
		new->entry.last_ns = old->entry.last_ns;
		if (by_file || end_of(&new->entry) > end_of(&old->entry))
			return 0;
		*new = *old;
		return 0;
	}
	if (by_file || block_entry_ended(&old->entry, a->now)) {
		a->n_removed++;
		return 0;
	}
	a->n_kept++;
	return block_items_add(next, &old->prefix, &old->entry);
}

/* Merges the entries of one kind. Both lists are sorted. */
static int merge(struct apply *a, enum tproxy_block_kind kind)
{
	struct block_items *next = &a->next.kinds[kind], *files = &a->files.kinds[kind];
	const struct block_items *before = &a->before.kinds[kind];
	size_t i, kept = a->n_kept;
	int r = 0;

	for (i = 0; i < before->n && r == 0; i++)
		r = take_old(a, &before->list[i], block_items_find(files, &before->list[i].prefix),
			     next);
	for (i = 0; i < files->n && r == 0; i++)
		r = block_items_add(next, &files->list[i].prefix, &files->list[i].entry);
	if (r < 0)
		return r;
	block_items_sort(next);
	a->n_new += next->n - (a->n_kept - kept);
	free(files->list);
	*files = (struct block_items){};
	return 0;
}

static int check_next(const struct apply *a)
{
	size_t kind;

	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX; kind++) {
		if (a->next.kinds[kind].n > TPROXY_BLOCK_ENTRIES_MAX) {
			log_err("the list would have %zu entries, and room for %u; nothing changes",
				a->next.kinds[kind].n, TPROXY_BLOCK_ENTRIES_MAX);
			return -ENOSPC;
		}
		if (block_check_depth(&a->next.kinds[kind]) < 0 ||
		    block_guard_shape(&a->next.kinds[kind], (enum tproxy_block_kind)kind) < 0)
			return -EINVAL;
	}
	return 0;
}

/* Makes the next list from the one in force and the files. */
static int make_next(struct apply *a, struct block_store *store)
{
	size_t kind;
	int r;

	r = block_store_read(store, &a->before);
	if (r == 0)
		r = set_comments(a, store);
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX && r == 0; kind++) {
		r = merge(a, kind);
		if (r < 0)
			log_out_of_memory();
	}
	if (r == 0)
		r = check_next(a);
	if (r == 0)
		r = block_guard(store, a->options, &a->next, a->now);
	return r < 0 ? r : 0;
}

static int replace(struct apply *a, struct confirm *confirm)
{
	_cleanup_(block_work_end) struct block_work work = BLOCK_WORK_NULL;
	struct block_store *store = &work.store;
	int r;

	store->on_progress = on_progress;
	r = block_work_begin_free(a->options->pin_dir, &work);
	if (r == 0)
		r = make_next(a, store);
	if (r == 0 && confirm)
		r = confirm_own(confirm, block_store_facts(store)->generation);
	if (r == 0)
		r = block_store_replace(store, &a->next, &a->before,
					a->options->error ? a->options->error
							  : block_store_facts(store)->error,
					/* hold= */ confirm);
	if (r == 0) {
		a->generation = block_store_facts(store)->generation;
		if (confirm)
			confirm_in_force(confirm, a->generation);
	}
	a->duration_ms = monotonic_coarse_ms() - a->began_ms;
	return r;
}

static void print_applied(const struct apply *a, bool in_force)
{
	const size_t n_blocks = a->next.kinds[TPROXY_BLOCK].n;
	const size_t n_allows = a->next.kinds[TPROXY_ALLOW].n;
	const uint64_t memory = NODE_SIZE * (block_items_nodes(&a->next.kinds[TPROXY_BLOCK]) +
					     block_items_nodes(&a->next.kinds[TPROXY_ALLOW]));
	_cleanup_(json_put) struct json_object *root = NULL;
	char time[FORMAT_DURATION_LEN], bytes[FORMAT_BYTES_LEN];

	if (!a->options->json) {
		printf("the list blocks %zu and allows %zu: %zu new, %zu kept, %zu removed; in %s, with about %s of kernel memory; generation %u\n",
		       n_blocks, n_allows, a->n_new, a->n_kept, a->n_removed,
		       format_duration_ms(a->duration_ms, time), format_bytes(memory, bytes),
		       a->generation);
		return;
	}
	root = json_new_document();
	json_add_number(root, "generation", a->generation);
	json_add_number(root, "blocked", n_blocks);
	json_add_number(root, "allowed", n_allows);
	json_add_number(root, "new", a->n_new);
	json_add_number(root, "kept", a->n_kept);
	json_add_number(root, "removed", a->n_removed);
	json_add_number(root, "duration_ms", a->duration_ms);
	json_add_number(root, "kernel_bytes", memory);
	json_add_bool(root, "in_force", in_force);
	json_print(root);
}

static bool read_block(const char *pin_dir, struct tproxy_block *ret_block)
{
	_cleanup_close_ int fd = -1;
	const __u32 key = 0;

	return bpffs_open_map(pin_dir, PINNED_BLOCK, /* writable= */ false, &fd) == 0 &&
	       bpf_map_lookup_elem(fd, &key, ret_block) == 0;
}

static bool is_held(const char *pin_dir)
{
	struct tproxy_block block;

	return read_block(pin_dir, &block) && block.state & TPROXY_BLOCK_HELD;
}

static uint32_t generation_in_force(const char *pin_dir)
{
	struct tproxy_block block;

	return read_block(pin_dir, &block)
		       ? block.slots[block.state & TPROXY_BLOCK_SLOT ? 1 : 0].generation
		       : 0;
}

/* Returns true if this process made the change that is held, or may take it over. */
static bool is_ours(const struct confirm *c, const struct block_store *store)
{
	if (c->generation)
		return block_store_facts(store)->generation == c->generation;
	return !block_store_is_held(store) || !wait_lock_is_held(c->pin_dir, WAIT_LOCK_BLOCK);
}

/* As confirm_kind.finish(). */
static int finish(const struct confirm *c, bool keep)
{
	_cleanup_(block_work_end) struct block_work work = BLOCK_WORK_NULL;
	bool ours;
	int r;

	r = pins_open(c->pin_dir, /* create= */ false, &work.pins);
	if (r == -ENOENT)
		return 2;
	if (r == 0)
		r = block_store_open(&work.pins, &work.store);
	if (r < 0)
		return r;
	ours = is_ours(c, &work.store);
	if (!ours || !block_store_is_held(&work.store))
		return ours ? 1 : 2;
	if (!keep)
		return block_store_restore(&work.store);
	block_store_settle(&work.store);
	return 0;
}

static const struct confirm_kind confirm_list = {
	.what = "the list",
	.are = "is",
	.them = "it",
	.previous = "the previous list is",
	.keep = "tproxyctl block --keep",
	.revert = "tproxyctl block --revert",
	.pin = WAIT_LOCK_BLOCK,
	.is_held = is_held,
	.generation = generation_in_force,
	.finish = finish,
};

static int apply_confirmed(struct apply *a)
{
	struct confirm confirm;
	int r;

	r = confirm_begin(&confirm_list, a->options->pin_dir, a->options->confirm_ms, &confirm);
	if (r == 0)
		r = replace(a, &confirm);
	if (r == 0) {
		confirm_unlocked(&confirm);
		if (!a->options->json)
			print_applied(a, /* in_force= */ true);
		fflush(stdout);
		r = confirm_wait(&confirm);
		if (a->options->json)
			print_applied(a, /* in_force= */ r <= 0);
	}
	confirm_end(&confirm);
	return r;
}

int block_apply(const struct ctl_options *options)
{
	struct apply a = {
		.options = options,
		.now = monotonic_kernel_ns(),
		.began_ms = monotonic_coarse_ms(),
	};
	int r;

	r = read_files(&a);
	if (r == 0) {
		note_counts(&a);
		r = check_files(&a);
	}
	if (r == 0 && options->confirm_ms) {
		r = apply_confirmed(&a);
	} else if (r == 0) {
		r = replace(&a, /* confirm= */ NULL);
		if (r == 0)
			print_applied(&a, /* in_force= */ true);
	}
	block_list_finish(&a.files);
	block_list_finish(&a.before);
	block_list_finish(&a.next);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}

int block_clear(const struct ctl_options *options)
{
	_cleanup_(block_work_end) struct block_work work = BLOCK_WORK_NULL;
	const struct block_list none = {};
	_cleanup_(json_put) struct json_object *root = NULL;
	size_t n;

	if (block_work_begin_free(options->pin_dir, &work) < 0)
		return EXIT_FAILURE;
	n = block_store_facts(&work.store)->n_entries[TPROXY_BLOCK] +
	    block_store_facts(&work.store)->n_entries[TPROXY_ALLOW];
	if (n && block_store_replace(&work.store, &none, &none, 0, /* hold= */ false) < 0)
		return EXIT_FAILURE;
	block_store_set_error(&work.store, 0);
	if (options->json) {
		root = json_new_document();
		json_add_number(root, "removed", n);
		json_add_number(root, "blocked", 0);
		json_add_number(root, "allowed", 0);
		json_print(root);
	} else {
		printf("removed %zu %s: the list is empty\n", n, n == 1 ? "entry" : "entries");
	}
	return EXIT_SUCCESS;
}

/* As block_work_begin(). Fails if no list waits for confirmation. */
static int begin_held(const char *pin_dir, struct block_work *work)
{
	int r = block_work_begin(pin_dir, work);

	if (r == 0 && !block_store_is_held(&work->store)) {
		log_err("no list waits for confirmation");
		r = -ENOENT;
	}
	return r;
}

/* Prints that the list in force is final, as a text or as JSON. */
static void print_final(const struct ctl_options *options, const struct block_store *store,
			bool confirmed)
{
	const unsigned int generation = block_store_facts(store)->generation;
	_cleanup_(json_put) struct json_object *root = NULL;

	if (options->json) {
		root = json_new_document();
		json_add_number(root, "generation", generation);
		json_add_bool(root, "confirmed", confirmed);
		json_print(root);
	} else if (confirmed) {
		printf("confirmed: generation %u stays\n", generation);
	} else {
		printf("taken back: the previous list is in force again\n");
	}
}

int block_keep(const struct ctl_options *options)
{
	_cleanup_(block_work_end) struct block_work work = BLOCK_WORK_NULL;

	if (begin_held(options->pin_dir, &work) < 0)
		return EXIT_FAILURE;
	block_store_settle(&work.store);
	print_final(options, &work.store, /* confirmed= */ true);
	return EXIT_SUCCESS;
}

int block_revert(const struct ctl_options *options)
{
	_cleanup_(block_work_end) struct block_work work = BLOCK_WORK_NULL;

	if (begin_held(options->pin_dir, &work) < 0 || block_store_restore(&work.store) < 0)
		return EXIT_FAILURE;
	print_final(options, &work.store, /* confirmed= */ false);
	return EXIT_SUCCESS;
}
