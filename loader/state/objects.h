/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Owner and mode of each pinned map. tproxy-load sets them, tproxyctl doctor checks them. */
#ifndef TPROXY_STATE_OBJECTS_H
#define TPROXY_STATE_OBJECTS_H

#include <stddef.h>
#include <sys/types.h>

struct map_access {
	const char *name;
	mode_t mode; /* of the pin; owner root, group of --relay-group */
};

extern const struct map_access map_access[];
extern const size_t n_map_access;

#endif
