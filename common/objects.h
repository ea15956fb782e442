/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that is pinned: one table of the maps, one of the hooks with their programs. Whatever
 * opens, checks, shows or removes a pin takes name, sizes, mode and attach type from here. The
 * definitions that the kernel half is built from are in bpf/maps.bpf.h and bpf/tproxy.bpf.c.
 */
#ifndef TPROXY_OBJECTS_H
#define TPROXY_OBJECTS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum pinned_map_id {
	PINNED_POLICY,
	PINNED_CONFIG,
	PINNED_MARKS,
	PINNED_FAILED,
	PINNED_SOCKS,
	PINNED_PORTS,
	PINNED_STATS,
	PINNED_CLIENTS,
	PINNED_LISTENERS,
	PINNED_NEWEST,
	PINNED_LOADS,
	PINNED_SHARES,
	PINNED_STRAYED,
	PINNED_SWEEP,
	PINNED_TARGETS,
	PINNED_RULES,
	PINNED_SETS,
	PINNED_RULES_ACTIVE,
	PINNED_SETS_ACTIVE,
	PINNED_RULE_STATS,
	PINNED_RULE_TEXTS,
	PINNED_SET_TEXTS,
	PINNED_CGROUP_BITS,
	PINNED_OBSERVED,
	PINNED_OBSERVED_SLOTS,
	PINNED_EVENTS,
	PINNED_UDP,
	PINNED_INTEREST,
	PINNED_WATCH_RINGS,
	PINNED_CAPTURE,
	PINNED_FLOWS,
	PINNED_BLOCK,
	PINNED_BLOCK_TRIES,
	/* The tries in map_block_tries, in the order of its indices. */
	PINNED_BLOCK_0,
	PINNED_ALLOW_0,
	PINNED_BLOCK_1,
	PINNED_ALLOW_1,
	PINNED_BLOCK_TEXTS,
	PINNED_BLOCK_STATS,
	PINNED_TRAFFIC,
	PINNED_TRAFFIC_SUMS,
	PINNED_PENDING,
	PINNED_VERDICTS,
	PINNED_RINGS,
	PINNED_RING_OWNERS,
	PINNED_PAIRS,
	_PINNED_MAP_MAX,
};

struct pinned_map {
	const char *name;    /* of the map and of its pin */
	uint32_t key_size;   /* in bytes */
	uint32_t value_size; /* in bytes; 0: private to the kernel half, never opened */
	mode_t mode;	     /* of the pin; owner root, group of --relay-group */
};

extern const struct pinned_map pinned_maps[_PINNED_MAP_MAX];

/*
 * The pins of map_rules_active, map_sets_active and the tries of the block list are replaced by
 * rename, from a second name with this suffix. PINNED_PREVIOUS is a further pin of a map like
 * map_rules_active, see tproxy_abi.h, and PINNED_PREVIOUS_SETS one of its trie: the trie is in a
 * slot too, but opening it there takes CAP_SYS_ADMIN.
 */
#define PINNED_STAGED	     "_new"
#define PINNED_PREVIOUS	     "map_rules_previous"
#define PINNED_PREVIOUS_SETS "map_sets_previous"

/*
 * The rings in map_rings have pins of their own, ring_0, ring_1 and so on: to open the map in a
 * slot takes CAP_SYS_ADMIN. The loader makes them. The name of this row is the kernel's name of
 * each.
 */
extern const struct pinned_map pinned_ring;

#define PINNED_RING_PREFIX "ring_"
#define PINNED_RING_LEN	   sizeof(PINNED_RING_PREFIX "4294967295")
void pinned_ring_name(uint32_t ring, char name[PINNED_RING_LEN]);

/*
 * The pin of the iterator that lists the live connections (bpf/list.bpf.h), readable by the group
 * of --relay-group. It is missing if the kernel refuses the iterator.
 */
#define PINNED_LIST	    "connections"
#define PINNED_LIST_MODE    0440
#define PINNED_LIST_PROGRAM "tproxy_list"

/* Returns the map of that name, or NULL if this version has none. */
const struct pinned_map *pinned_map_by_name(const char *name);
/* As pinned_map_by_name(), but also takes the further names that a pin may have, and rings. */
const struct pinned_map *pinned_map_of_pin(const char *name);

/*
 * The hooks in attach order. connect comes last because it starts to redirect: by then everything
 * that a redirected connection needs is attached. Detaching begins with connect.
 */
enum hook_id {
	HOOK_RELEASE,
	HOOK_GETPEER4,
	HOOK_GETPEER6,
	HOOK_SOCKOPT,
	HOOK_SWEEP,
	HOOK_SWEEP_NOW,
	HOOK_EGRESS,
	HOOK_SENDMSG4,
	HOOK_SENDMSG6,
	HOOK_BLOCK_IN,
	HOOK_BLOCK_OUT,
	HOOK_XDP,
	HOOK_PICK,
	HOOK_SOCKOPS,
	HOOK_CONNECT4,
	HOOK_CONNECT6,
	_HOOK_MAX,
};

/* When a hook is attached to cgroups. */
enum hook_need {
	HOOK_NEED_NONE,	 /* always */
	HOOK_NEED_UDP,	 /* while a rule in force is about UDP */
	HOOK_NEED_BLOCK, /* while tproxy_block.state has ENTRIES or TRAFFIC */
};

struct hook {
	/* pins are prog_NAME and link_NAME_<cgroup id>, the program is tproxy_NAME */
	const char *name;
	const char *section; /* as in SEC(), and in messages about the kind of program */
	enum bpf_prog_type prog_type;
	enum bpf_attach_type attach_type;
	bool scope; /* attached at scopes, where clients run; neither flag: pinned only */
	bool relay; /* attached where relays run */
	enum hook_need need;
	bool opened; /* relays open the pin of the program, with BPF_F_RDONLY */
};

extern const struct hook hooks[_HOOK_MAX];

/* Modes of the pins of programs and links: for root alone, or for the relays' group too. */
#define PINNED_HOOK_MODE   0600
#define PINNED_OPENED_MODE 0640

/* Returns NULL if no program of this version has that name. */
const struct hook *hook_by_name(const char *name);
/* The same by the name of the program's pin, or of the one that is renamed to it. */
const struct hook *hook_of_program(const char *name);

/* Returns true if the hook is attached to cgroups, and false if its program is only pinned. */
static inline bool hook_is_attached(const struct hook *hook)
{
	return hook->scope || hook->relay;
}

#endif
