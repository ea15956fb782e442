/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses as the maps have them. Any thread. */
#ifndef TPROXY_ENDPOINT_H
#define TPROXY_ENDPOINT_H

#include <stdbool.h>

#include "parse.h"
#include "tproxy_abi.h"

/* True if the address is an IPv4 one, in its mapped form. */
bool endpoint_is_ipv4(const struct tproxy_endpoint *endpoint);

/* Returns it as a socket address: of AF_INET if it is an IPv4 one, otherwise of AF_INET6. */
union sockaddr_any endpoint_address(const struct tproxy_endpoint *endpoint);

#endif
