/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The interfaces of --xdp in the output of status. */
#ifndef TPROXY_STATE_XDP_STATUS_H
#define TPROXY_STATE_XDP_STATUS_H

struct json_object;

/*
 * Adds "xdp", an object with the interfaces, the counters of the filter there, and the PID of
 * tproxy-load --follow. Returns 0 or -errno, not logged.
 */
int xdp_status_add(struct json_object *root, const char *pin_dir);

/* Prints that, or nothing if the load names no interface. */
void xdp_status_print(struct json_object *root);

#endif
