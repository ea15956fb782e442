/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tproxyctl block, unblock and allow: one file for each group of actions. The functions return the
 * exit status.
 */
#ifndef TPROXY_CTL_BLOCK_H
#define TPROXY_CTL_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "block/list.h"
#include "block/store.h"
#include "state/pins.h"

struct ctl_options;

int block_add(const struct ctl_options *options, enum tproxy_block_kind kind);
int block_unblock(const struct ctl_options *options);
int block_apply(const struct ctl_options *options);
int block_clear(const struct ctl_options *options);
int block_keep(const struct ctl_options *options);
int block_revert(const struct ctl_options *options);
int block_show_list(const struct ctl_options *options);
int block_show_stats(const struct ctl_options *options);

/* The list in force, with the pin directory locked. */
struct block_work {
	struct pins pins;
	struct block_store store;
};

#define BLOCK_WORK_NULL                                                                            \
	{                                                                                          \
		.pins = PINS_NULL, .store = BLOCK_STORE_NULL                                       \
	}

/*
 * Opens the list to change it. block_work_begin_free() also ends an earlier list that was not
 * confirmed: it is taken back if the processes that would have done so were killed; if one of them
 * waits, this fails. Return 0 or -errno, logged. Call block_work_end() after a failure too.
 */
int block_work_begin(const char *pin_dir, struct block_work *work);
int block_work_begin_free(const char *pin_dir, struct block_work *work);
void block_work_end(struct block_work *work);

/*
 * Reads the prefixes that the command line names. Returns 0, or the exit status 2 after a usage
 * error, which is logged, or 1. The caller frees ret_items->list.
 */
int block_operands(const struct ctl_options *options, const struct tproxy_block_entry *like,
		   struct block_items *ret_items);

/* Logs and returns -EINVAL if too many entries that end lie within each other. @items is sorted. */
int block_check_depth(const struct block_items *items);

/*
 * Adds an entry that allows the peer of the ssh session of this process, and logs that, if @list
 * would block the peer. Returns 1 if the entry was added, 0 if not, or -errno, logged: -EPERM if
 * the list cuts this host off and --force is not given. @list has all entries that matter here.
 */
int block_guard(struct block_store *store, const struct ctl_options *options,
		struct block_list *list, uint64_t now);

/*
 * Refuses entries that allow all addresses, and a trie that older kernels cannot read. The latter
 * is seen only if @items, which must be sorted, are all of the trie. Returns 0 or -EINVAL, logged.
 */
int block_guard_shape(const struct block_items *items, enum tproxy_block_kind kind);

/*
 * Refuses the loss of allow entries that protect a default gateway, unless --force is given, or the
 * peer of the ssh session, unless --no-safety is. They are lost if they go or get an end. @lost has
 * their prefixes, sorted; others are ignored. With @blocks_too the block entries of these prefixes
 * go too. Returns 0, -EPERM, or another -errno, logged.
 */
int block_guard_lost(struct block_store *store, const struct ctl_options *options,
		     const struct block_items *lost, bool blocks_too, uint64_t now);

#endif
