/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Work in other network namespaces: those in which some process of this host runs. */
#ifndef TPROXY_HOST_NETNS_TOUR_H
#define TPROXY_HOST_NETNS_TOUR_H

#include <stdint.h>

/* Reads the cookie of the calling thread's namespace. Returns 0 or -errno. */
int netns_tour_cookie(uint64_t *ret_cookie);

/*
 * Calls @fn in each namespace in which a process runs that /proc shows, except the caller's. Each
 * is visited once. A result other than 0 ends the tour. The calling thread is back in its own
 * namespace afterwards. Returns 0, the result of @fn, or -errno: -EPERM if this process may enter
 * no other namespace.
 */
int netns_tour(int (*fn)(uint64_t cookie, void *data), void *data);

#endif
