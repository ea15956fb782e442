/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Another program's XDP program on an interface: which one it is, and what holds it there. */
#ifndef TPROXY_STATE_XDP_HOLDER_H
#define TPROXY_STATE_XDP_HOLDER_H

struct interface;

/*
 * Writes name and id of the program, its mode, how it is attached, and the process that holds its
 * link. Without CAP_SYS_ADMIN only id and mode are known.
 */
#define XDP_HOLDER_LEN 512
char *xdp_holder_describe(const struct interface *interface, char buf[XDP_HOLDER_LEN]);

/* Writes how to remove it. */
char *xdp_holder_fix(const struct interface *interface, char buf[XDP_HOLDER_LEN]);

/* Logs that tproxy-load does not replace it. */
void xdp_holder_log(const char *name, const struct interface *interface);

#endif
