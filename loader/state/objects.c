// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl. Modes of the pinned maps, see objects.h. A relay writes map_config,
 * map_marks and map_failed (0660), and may read the maps with 0640. Maps with 0600 are for the BPF
 * programs and root.
 */
#include "objects.h"

#include "util.h"

/* clang-format off */
const struct map_access map_access[] = {
	{ "map_policy", 0640 },
	{ "map_config", 0660 },
	{ "map_marks", 0660 },
	{ "map_failed", 0660 },
	{ "map_socks", 0640 },
	{ "map_ports", 0640 },
	{ "map_stats", 0640 },
	{ "map_clients", 0600 },
	{ "map_listeners", 0600 },
	{ "map_loads", 0600 },
	{ "map_shares", 0600 },
	{ "map_strayed", 0600 },
	{ "map_sweep", 0600 },
	{ "map_targets", 0640 },
};
/* clang-format on */
const size_t n_map_access = ARRAY_SIZE(map_access);
