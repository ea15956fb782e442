/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a block list must not do: cut off the ssh session from which it is applied, the default
 * gateway, or everything. host/gateways.h and host/ssh_peer.h find the addresses.
 */
#ifndef TPROXY_BLOCK_SAFETY_H
#define TPROXY_BLOCK_SAFETY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"

struct gateway;

/*
 * Returns true if an entry without an end allows an address. One that ends protects nothing: the
 * address is blocked later, without a command that would check it.
 */
bool block_safety_allows(const struct block_items *allows, const __u8 addr[16]);

/*
 * Returns the entry of the list that blocks an address, or NULL if none does, or if
 * block_safety_allows().
 */
const struct block_item *block_safety_blocks(const struct block_list *list, const __u8 addr[16],
					     uint64_t now);

/*
 * Returns true if the list cuts this host off, and writes why: a gateway is blocked, or all
 * addresses of a family are.
 */
#define BLOCK_SAFETY_LEN 256
bool block_safety_cuts_off(const struct block_list *list, const struct gateway *gateways, size_t n,
			   uint64_t now, char ret_why[BLOCK_SAFETY_LEN]);

/*
 * Returns true if a prefix is so short that it may be the one after which all addresses are
 * blocked. Then the whole list has to be looked at.
 */
bool block_safety_is_wide(const struct tproxy_prefix *prefix);

#endif
