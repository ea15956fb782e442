/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The default gateways of this network namespace. */
#ifndef TPROXY_HOST_GATEWAYS_H
#define TPROXY_HOST_GATEWAYS_H

#include <stddef.h>

#include "tproxy_abi.h"

struct gateway {
	__u8 addr[16]; /* as in struct tproxy_endpoint */
};

/*
 * Reads the gateways of all default routes, of both families and in all tables, those with several
 * next hops too. A default route without a gateway has none. Returns 0 or -errno. The caller frees
 * *ret_list.
 */
int gateways_read(struct gateway **ret_list, size_t *ret_n);

#endif
