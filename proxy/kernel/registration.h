/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Registration: the relay's side of the pinned maps. The relay marks its sockets in map_marks and
 * publishes its listeners in map_config, under the cookie of its network namespace. Besides
 * marks.c and origdst.c, this is the only place in the relay that uses BPF.
 *
 * Order: registration_open() opens the pins. For each listener: registration_mark_listener(),
 * listen(), registration_add_listener(). registration_publish() writes the entry, and connections
 * come. registration_check() renews the entry every second. registration_remove() deletes it, and
 * registration_close() closes the maps.
 *
 * The entry belongs to the relay that registered last. A relay that was replaced does not take it
 * back, unless clients could not reach the new relay's listeners, or the entry is gone.
 *
 * Functions belong to the main thread; marks.h has what workers do. Unless stated otherwise, a
 * function returns 0 or -errno and logs one line for an error. Ports are in host byte order, except
 * in sockaddr_any.
 */
#ifndef TPROXY_REGISTRATION_H
#define TPROXY_REGISTRATION_H

#include <stdbool.h>
#include <stdint.h>

#include "parse.h"
#include "tproxy_abi.h"

struct marks;

struct registration {
	const char *pin_dir;	      /* not owned */
	int config_fd;		      /* map_config */
	int marks_fd;		      /* map_marks */
	int failed_fd;		      /* map_failed */
	uint32_t config_id, marks_id; /* ids of the maps, see bpffs_map_id() */
	uint64_t netns_cookie;
	uint32_t pid;		/* as the kernel half sees it, in the initial PID namespace */
	uint32_t uid;		/* as the kernel half sees it, in the initial user namespace */
	uint64_t registered_ns; /* of monotonic_kernel_ns() */
	struct tproxy_listen listen[_TPROXY_FAMILY_MAX]; /* listeners that were added */
	int error;		       /* -errno of the last attempt to renew the entry, or 0 */
	bool offer6;		       /* publish the IPv6 listeners: there are IPv6 routes */
	bool away[_TPROXY_FAMILY_MAX]; /* clients cannot reach the address: not published */
	/* Two sockets in the cgroup of the listeners. query_fd queries the kernel half. probe_fd
	 * listens for a moment, to check that sockops sees it. */
	int query_fd, probe_fd;
	bool probe_bound;
	uint64_t sweep_due_ns; /* time of the next pass, see sweep() */
};

#define REGISTRATION_NULL                                                                          \
	{                                                                                          \
		.config_fd = -1, .marks_fd = -1, .failed_fd = -1, .query_fd = -1, .probe_fd = -1   \
	}

/*
 * Opens the pins below pin_dir, which must outlive *reg, and checks their ABI version. *reg is set
 * only on success.
 */
int registration_open(struct registration *reg, const char *pin_dir);
void registration_close(struct registration *reg);

/* Where a listener belongs that is one of a pair, see map_pairs in tproxy_abi.h. */
struct registration_pair {
	uint32_t ring, pair;
	bool by_default; /* TPROXY_MARK_HONEST_DEFAULT */
};
/*
 * Marks a socket as a relay's listener, as one of a pair unless pair is NULL. The socket is bound
 * and does not listen yet: sockops confirms the mark in listen(). Does not log.
 */
int registration_mark_listener(const struct registration *reg, int fd,
			       const struct registration_pair *pair);
/*
 * After listen(): checks that the programs are attached to the cgroup of the socket, and adds its
 * address and port to those that registration_publish() publishes. Listeners of one family have one
 * address, and are TPROXY_PORTS_MAX at most. Returns the family, enum tproxy_family, or -errno;
 * -ENOTCONN: the programs are not attached there.
 */
int registration_add_listener(struct registration *reg, int fd);
/* Returns the address of the listeners of this family, with the first port. */
union sockaddr_any registration_address(const struct registration *reg, enum tproxy_family family);
/*
 * True if fd is a listener that was marked in the maps pinned now; *ret_mark is set then. Does not
 * log.
 */
bool registration_knows_listener(const struct registration *reg, int fd,
				 struct tproxy_mark *ret_mark);

/*
 * Duplicates what a worker needs into *ret_marks, which is set only on success and owned by the
 * caller. error_memory_ms: see marks.h.
 */
int registration_marks(const struct registration *reg, uint64_t error_memory_ms,
		       struct marks *ret_marks);

/*
 * Publishes the added listeners in map_config, for our network namespace. Replaces the entry of
 * another relay. New connections may come from here on.
 */
int registration_publish(struct registration *reg);
/* True if our entry in map_config is gone or replaced, or nothing is pinned. Does not log. */
bool registration_is_replaced(const struct registration *reg);
/* Deletes the entry in map_config if it is ours. Does not log. */
void registration_remove(struct registration *reg);

/* Result of registration_check(). */
enum registration_state {
	REGISTRATION_GOOD,
	REGISTRATION_OTHER,    /* another relay, which serves, has registered since */
	REGISTRATION_GONE,     /* nothing is pinned */
	REGISTRATION_DENIED,   /* no permission to open the pins or to search their directory */
	REGISTRATION_UNHEARD,  /* the programs do not see our sockets: the entry is deleted */
	REGISTRATION_FAILED,   /* the entry could not be renewed, -errno in registration::error */
	REGISTRATION_REPLACED, /* other maps are pinned: close, open, mark new listeners, publish */
};
/*
 * Called every second. Renews alive_ns in the entry, and has the kernel half remove stale entries.
 * Checks that the same maps are pinned, that the programs see our sockets, and that clients reach
 * our addresses. Registers again if the entry is gone, or is another relay's that serves no more.
 */
enum registration_state registration_check(struct registration *reg);

#endif
