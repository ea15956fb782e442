/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A part of tproxy_abi.h: the block list, and the traffic of cgroups. */
#ifndef TPROXY_ABI_BLOCK_H
#define TPROXY_ABI_BLOCK_H

#include <linux/types.h>

#include "tproxy_abi_base.h"

/*
 * The block list. map_block, an array of one entry, selects the list in force. Written by
 * `tproxyctl block`, `unblock` and `allow`, the loader and tproxy-load --follow, which map it into
 * their memory. Read by connect, block_in, block_out and xdp.
 *
 * map_block_tries, an array of maps, has two LPM tries for each of two slots, at the index
 * TPROXY_BLOCK_TRIE(slot, kind): prefix (struct tproxy_prefix) -> struct tproxy_block_entry.
 * map_block_0, map_allow_0, map_block_1 and map_allow_1 are pins of the same tries. An address is
 * blocked if the block trie has an entry for it, and the allow trie has none. An entry that is
 * shorter than the prefix of IPv4-mapped addresses (96 bits) never matches an IPv4 address.
 *
 * A whole list is replaced by filling the slot that is not in use and storing state. The hooks read
 * state once for each connect() or packet, so one list decides it. A hook may still use the other
 * slot until an RCU grace period has passed, which an update of map_block_tries waits for.
 *
 * The hooks remember addresses that pass (passed.bpf.h). A process that changes tries in use sets
 * CHANGING before, and clears it afterwards. If it is killed in between, CHANGING stays until the
 * next command, and each address is looked up.
 */
#define TPROXY_BLOCK_ENTRIES_MAX TPROXY_PREFIXES_MAX /* of each trie */
#define TPROXY_BLOCK_TEXTS_MAX	 1024
/* Entries in a row, each within the next one, that may have ended before the look-up gives up. */
#define TPROXY_BLOCK_ENDED_MAX 8
#define TPROXY_TRAFFIC_MAX     4096

/* All flags are in the lowest byte of state, so that no reader sees a part of them. */
enum tproxy_block_state {
	TPROXY_BLOCK_ENTRIES = 1 << 0, /* the block trie of the slot in use has entries */
	TPROXY_BLOCK_ALLOWS = 1 << 1,  /* the allow trie has entries too */
	TPROXY_BLOCK_SLOT = 1 << 2,    /* slot 1 is in use, otherwise slot 0 */
	TPROXY_BLOCK_TRAFFIC = 1 << 3, /* block_in and block_out count in map_traffic */
	/* User space only: TRAFFIC is set by the load, and stays when `tproxyctl top` ends. */
	TPROXY_BLOCK_TRAFFIC_STAYS = 1 << 4,
	/* User space only: the other slot has the previous list until this one is confirmed. */
	TPROXY_BLOCK_HELD = 1 << 5,
	/* The tries of the slot in use are being changed: the hooks remember no verdict. */
	TPROXY_BLOCK_CHANGING = 1 << 6,
};

enum tproxy_block_kind {
	TPROXY_BLOCK,
	TPROXY_ALLOW,
	_TPROXY_BLOCK_KIND_MAX,
};

#define TPROXY_BLOCK_TRIE(slot, kind) (_TPROXY_BLOCK_KIND_MAX * (slot) + (kind))

struct tproxy_block_slot {
	__u64 loaded_ns;   /* CLOCK_MONOTONIC of the last change */
	__u64 next_end_ns; /* CLOCK_MONOTONIC: no entry ends before; 0 = none ends */
	__u32 n_entries[_TPROXY_BLOCK_KIND_MAX];
	__u32 error;	  /* errno of connect() to a blocked address; 0 = EACCES */
	__u32 generation; /* counts lists that were replaced as a whole */
};

/* The kernel half reads state and changes at once, and error of the slot in use. */
struct tproxy_block {
	union {
		struct {
			__u32 state; /* enum tproxy_block_state; 0: the hooks do nothing */
			/*
			 * Number of changes of the list. The store that changes it raises this. A
			 * verdict that a hook remembers is valid under one number only. 0: none is.
			 */
			__u32 changes;
		};
		__u64 state_and_changes;
	};
	struct tproxy_block_slot slots[2];
};

enum tproxy_block_entry_flags {
	/* For user space only. */
	TPROXY_BLOCK_BY_FILE = 1 << 0,	 /* of a list that was loaded as a whole */
	TPROXY_BLOCK_BY_SAFETY = 1 << 1, /* added so that nobody locks himself out */
};

struct tproxy_block_entry {
	__u64 ends_ns; /* CLOCK_MONOTONIC; 0 = it stays */
	/* Block trie: what it stopped. Allow trie: what would have been stopped without it. */
	__u64 packets; /* and connect() calls */
	__u64 bytes;
	__u64 last_ns; /* CLOCK_MONOTONIC of the last one, to a few ms */
	__u32 n_bits;  /* as in the key */
	__u16 comment; /* index in map_block_texts, 0 = none */
	__u16 flags;   /* enum tproxy_block_entry_flags */
};

/* map_block_texts, an array: comments of entries. Index 0 is not used. User space only. */
struct tproxy_block_text {
	__u32 reserved;
	char text[124]; /* ends with a NUL; empty: index not in use */
};

/* map_block_stats, a per-CPU array by place. Counted while the list has entries. */
enum tproxy_place {
	TPROXY_PLACE_CONNECT, /* connect() in a scope, by destination */
	TPROXY_PLACE_INGRESS, /* block_in: packets to sockets of a scope, by source */
	TPROXY_PLACE_EGRESS,  /* block_out: packets of sockets of a scope, by destination */
	TPROXY_PLACE_XDP,     /* packets that an interface receives, by source */
	_TPROXY_PLACE_MAX,
};

/* Passed: seen - dropped - invalid. Packets of the loopback device are not seen. */
struct tproxy_block_stat {
	__u64 seen; /* connect() calls, or packets, of any protocol */
	__u64 dropped;
	__u64 dropped_bytes;
	__u64 invalid; /* not parsed: the header is cut or wrong; passed on to the kernel */
	__u64 allowed; /* blocked, but passed by the allow list */
	__u64 control; /* blocked, but passed: ND, MLD, IGMP, DHCP */
};

/*
 * map_traffic, a per-CPU hash: id of a socket's cgroup -> its packets and bytes, those of the
 * loopback device too, while TPROXY_BLOCK_TRAFFIC is set. Counted by block_in and block_out, which
 * insert the entry with the first packet. User space deletes entries of removed cgroups, and
 * inserts the entry 0, which counts what finds no room. Dropped packets do not count. Bytes begin
 * with the IP header. A packet that stands for many (GSO, GRO) counts as many packets; its bytes
 * are those that it has, with one header.
 *
 * map_traffic_sums, a per-CPU hash: id of a cgroup of map_targets -> the sum of all cgroups in and
 * below it. A cgroup counts for the deepest target that it is in. User space inserts and deletes
 * the entries.
 */
struct tproxy_traffic {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
	/* map_traffic, kernel half only: key in map_traffic_sums; 0 = not looked for yet */
	__u64 target_id;
};

_Static_assert(sizeof(struct tproxy_block) == 72, "ABI");
/* A node of the trie then takes 96 bytes. */
_Static_assert(sizeof(struct tproxy_block_entry) == 40, "ABI");
_Static_assert(sizeof(struct tproxy_block_text) == 128, "ABI");
_Static_assert(sizeof(struct tproxy_block_stat) == 48, "ABI");
_Static_assert(sizeof(struct tproxy_traffic) == 40, "ABI");

#endif
