/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names of the upstreams that rules tell the relay to use. map_socks has the id of each redirected
 * connection, map_rule_texts the names. The id of an instance of `tproxyctl run` may have no name
 * there; it is shown as #ID.
 */
#ifndef TPROXY_STATE_UPSTREAM_NAMES_H
#define TPROXY_STATE_UPSTREAM_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct conn_row;

#define UPSTREAM_NAMES_MAX 64

struct upstream_names {
	int socks_fd, texts_fd; /* owned; -1: not readable */
	size_t n;
	struct {
		uint32_t id;
		char name[TPROXY_UPSTREAM_NAME_LEN];
	} known[UPSTREAM_NAMES_MAX];
};

#define UPSTREAM_NAMES_NULL                                                                        \
	{                                                                                          \
		.socks_fd = -1, .texts_fd = -1                                                     \
	}

/* Maps that cannot be opened leave rows as they are. */
void upstream_names_open(const char *pin_dir, struct upstream_names *ret_names);
void upstream_names_close(struct upstream_names *names);

/*
 * Sets row->upstream of a redirected connection that is still in map_socks. Leaves other rows as
 * they are.
 */
void upstream_names_set(struct upstream_names *names, struct conn_row *row);
/* Returns the id of row->upstream, 0 for none. */
uint32_t upstream_names_id(const struct conn_row *row);

#endif
