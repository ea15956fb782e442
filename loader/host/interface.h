/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Network interfaces of the caller's network namespace, and the XDP programs on them. */
#ifndef TPROXY_HOST_INTERFACE_H
#define TPROXY_HOST_INTERFACE_H

#include <linux/types.h>
#include <net/if.h>

/* How an XDP program is attached. */
enum interface_xdp {
	INTERFACE_XDP_NONE,
	INTERFACE_XDP_NATIVE,
	INTERFACE_XDP_GENERIC,
	INTERFACE_XDP_OFFLOAD,
	INTERFACE_XDP_SEVERAL, /* programs in several of these modes */
};

struct interface {
	int index;
	unsigned short type; /* ARPHRD_ETHER and so on, see linux/if_arp.h */
	char name[IFNAMSIZ];
	enum interface_xdp xdp;
	__u32 prog_id; /* of the program, or of one of several; 0: none */
};

/* Returns "none", "native", "generic", "offload" or "several modes". */
const char *interface_xdp_name(enum interface_xdp xdp);

/*
 * Returns 0, -ENODEV if no interface has that name, or another -errno. Not logged. The second one
 * finds an interface by its index.
 */
int interface_find(const char *name, struct interface *ret_interface);
int interface_find_index(int index, struct interface *ret_interface);

/* Writes the name of the driver. Returns 0 or -errno; -EOPNOTSUPP: it has none, as lo. */
#define INTERFACE_DRIVER_LEN 32
int interface_driver(const char *name, char ret_driver[INTERFACE_DRIVER_LEN]);

/*
 * Asks whether the driver has native XDP. Returns 1, 0, or -errno if the kernel does not tell
 * (before Linux 6.3).
 */
int interface_has_native(int index);

/*
 * Opens a netlink socket that receives an RTM_NEWLINK message for each interface that appears,
 * changes, or gets another name. Returns a non-blocking fd or -errno.
 */
int interface_watch(void);

#endif
