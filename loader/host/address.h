/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses as the maps hold them: 16 bytes in network byte order, an IPv4 address in its mapped
 * form ::ffff:a.b.c.d.
 */
#ifndef TPROXY_HOST_ADDRESS_H
#define TPROXY_HOST_ADDRESS_H

#include <stdbool.h>

#include "tproxy_abi.h"

/* Writes the mapped form of an IPv4 address, whose 4 bytes are in network byte order. */
void address_map4(__u8 addr[16], const void *ipv4);

bool address_is_ipv4(const __u8 addr[16]);
/* Returns true for 127.0.0.0/8 and ::1. */
bool address_is_loopback(const __u8 addr[16]);
/* Return true for 0.0.0.0, and for ::. */
bool address_is_any4(const __u8 addr[16]);
bool address_is_any6(const __u8 addr[16]);

/* 127.0.0.1 and ::1, which reach a listener at the wildcard of their family. */
extern const __u8 address_loopback4[16], address_loopback6[16];

/* Returns the address of a relay's listeners with their port number @i. */
struct tproxy_endpoint address_of_listen(const struct tproxy_listen *listen, __u32 i);

/* Writes the address alone, an IPv4-mapped address as IPv4. Returns @buf. */
#define ADDRESS_LEN 46
char *address_format(const struct tproxy_endpoint *ep, char buf[ADDRESS_LEN]);
/* Writes "a.b.c.d:port" or "[v6]:port"; the port may be 0. Returns @buf. */
#define ADDRESS_ENDPOINT_LEN (ADDRESS_LEN + 8)
char *address_format_endpoint(const struct tproxy_endpoint *ep, char buf[ADDRESS_ENDPOINT_LEN]);

#endif
