// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See upstream_names.h. All texts are read for an id that is new, and the name is kept. Names do
 * not change: an id is a hash of its name.
 */
#include "upstream_names.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "conn_row.h"
#include "objects.h"
#include "rules_view.h"
#include "upstream_id.h"
#include "util.h"

void upstream_names_open(const char *pin_dir, struct upstream_names *ret_names)
{
	*ret_names = (struct upstream_names)UPSTREAM_NAMES_NULL;
	bpffs_open_map(pin_dir, PINNED_SOCKS, /* writable= */ false, &ret_names->socks_fd);
	bpffs_open_map(pin_dir, PINNED_RULE_TEXTS, /* writable= */ false, &ret_names->texts_fd);
}

void upstream_names_close(struct upstream_names *names)
{
	util_closep(&names->socks_fd);
	util_closep(&names->texts_fd);
	*names = (struct upstream_names)UPSTREAM_NAMES_NULL;
}

/* Sets name to that of the upstream, from the texts of rules, or to "#ID". */
static void read_name(const struct upstream_names *names, uint32_t id,
		      char name[TPROXY_UPSTREAM_NAME_LEN])
{
	struct tproxy_rule_text text;
	uint32_t i;

	for (i = 0; names->texts_fd >= 0 && i < TPROXY_RULE_COUNTERS_MAX; i++) {
		if (rules_view_rule_text(names->texts_fd, i, &text) == 0 && *text.upstream &&
		    upstream_id(text.upstream) == id) {
			strcpy(name, text.upstream);
			return;
		}
	}
	snprintf(name, TPROXY_UPSTREAM_NAME_LEN, "#%08x", id);
}

void upstream_names_set(struct upstream_names *names, struct conn_row *row)
{
	struct tproxy_conn conn;
	size_t i;

	if (row->verdict != CONN_REDIRECTED || names->socks_fd < 0 ||
	    bpf_map_lookup_elem(names->socks_fd, &row->id, &conn) < 0)
		return;
	*row->upstream = '\0';
	if (!conn.upstream)
		return;
	for (i = 0; i < names->n && names->known[i].id != conn.upstream; i++)
		;
	if (i == UPSTREAM_NAMES_MAX) {
		read_name(names, conn.upstream, row->upstream);
		return;
	}
	if (i == names->n) {
		names->known[i].id = conn.upstream;
		read_name(names, conn.upstream, names->known[i].name);
		names->n++;
	}
	strcpy(row->upstream, names->known[i].name);
}

uint32_t upstream_names_id(const struct conn_row *row)
{
	if (*row->upstream == '#')
		return (uint32_t)strtoul(row->upstream + 1, NULL, 16);
	return *row->upstream ? upstream_id(row->upstream) : 0;
}
