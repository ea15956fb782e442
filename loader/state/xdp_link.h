/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The links of the program xdp on interfaces. The pin is xdp_<index of the interface in
 * hexadecimal>. Indexes are those of one network namespace, in which the loader ran last.
 *
 * The kernel severs a link when its interface goes: the link stays pinned and does nothing. An
 * interface that is made again under the same name has another index, and no program.
 */
#ifndef TPROXY_STATE_XDP_LINK_H
#define TPROXY_STATE_XDP_LINK_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/interface.h"
#include "pins.h"

struct tproxy_target;

#define XDP_LINK_PREFIX "xdp_"

void xdp_link_format(int index, char buf[PINS_LINK_LEN]);
/* Returns -EINVAL, not logged, for any other name. */
int xdp_link_parse(const char *name, int *ret_index);

struct xdp_link {
	int index;    /* as in the name of the pin */
	bool severed; /* the kernel has detached it, because its interface is gone */
	__u32 link_id;
	__u32 prog_id;
};

/* Reads the link that is pinned as @name. Errors as of pinned_link_read(). Not logged. */
int xdp_link_read(const struct pins *pins, const char *name, struct xdp_link *ret_link);

enum xdp_state {
	XDP_ATTACHED,
	XDP_DETACHED,  /* the interface exists, and has no program */
	XDP_FOREIGN,   /* another program is attached to it */
	XDP_UNFIT,     /* its packets are no Ethernet frames, as those of WireGuard */
	XDP_ABSENT,    /* no interface has that name now */
	XDP_ELSEWHERE, /* the loader ran in another network namespace */
	XDP_UNKNOWN,   /* this process may not look */
};

struct xdp_look {
	enum xdp_state state;
	struct interface interface; /* unless ABSENT, ELSEWHERE or UNKNOWN */
	struct xdp_link link;	    /* if ATTACHED */
};

/* Finds out what is attached to an interface of the load. Only pins->path has to be set. */
void xdp_link_look(const struct pins *pins, const struct tproxy_target *target,
		   struct xdp_look *ret_look);

/*
 * Attaches a program to the interface that @target names, in its mode, and pins the link. A link
 * that is attached gets the program in one step. Only a change of the mode takes a moment without
 * one. target->xdp_error is set. The pins must be locked. *ret_created says whether the pin is new,
 * also after a failure. Returns 0, -EBUSY if another program is attached, or another -errno,
 * logged; -ENODEV, not logged: there is no such interface.
 */
int xdp_link_attach(const struct pins *pins, int prog_fd, struct tproxy_target *target,
		    bool *ret_created);

/* Returns the mode that was asked for: "auto", "native" or "generic". */
const char *xdp_link_wanted(const struct tproxy_target *target);

/*
 * Writes why the program runs in generic mode on this interface, or "" in native mode: a phrase
 * that follows the mode.
 */
#define XDP_LINK_WHY_LEN 256
char *xdp_link_why(const struct tproxy_target *target, const struct interface *interface,
		   char buf[XDP_LINK_WHY_LEN]);

#endif
