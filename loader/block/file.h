/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files of `tproxyctl block --apply`: list files as they are published (rules/netset.h), whose
 * lines may say more:
 *
 *   [block|allow] ADDRESS|CIDR|FIRST-LAST [for DURATION]    # comment
 */
#ifndef TPROXY_BLOCK_FILE_H
#define TPROXY_BLOCK_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct block_list;
struct rules_messages;
struct source;

struct block_file_counts {
	size_t n_masked;   /* entries whose bits beyond the length were cleared */
	size_t n_loopback; /* entries of loopback addresses, which were left out */
};

/*
 * Appends the entries of a text. Each is a copy of @like, with the end that its line gives it, from
 * now on. A line with other text is skipped, and an error is added to the messages of @source. Adds
 * to *counts. Returns 0 or -ENOMEM.
 */
int block_file_parse(const struct source *source, const struct tproxy_block_entry *like,
		     uint64_t now, struct block_list *list, struct block_file_counts *counts);

/*
 * Reads and parses a file; "-" is stdin. Returns 0, also with errors in the messages, or another
 * -errno, for which a message was added.
 */
int block_file_read(const char *path, const struct tproxy_block_entry *like, uint64_t now,
		    struct block_list *list, struct block_file_counts *counts,
		    struct rules_messages *messages);

#endif
