/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Prefixes of addresses as map_sets has them: 16 bytes, an IPv4 address mapped, so that an IPv4
 * prefix of n bits has 96 + n.
 */
#ifndef TPROXY_RULES_PREFIX_H
#define TPROXY_RULES_PREFIX_H

#include <stdbool.h>
#include <stddef.h>

#include "tproxy_abi.h"

#define PREFIX_BITS_MAX 128

/* A list that grows. Zeroed, it is empty. */
struct prefixes {
	struct tproxy_prefix *list;
	size_t n, room;
};

enum prefix_result {
	PREFIX_OK,
	PREFIX_MASKED,	   /* read, with the bits beyond its length cleared; see prefixes_parse() */
	PREFIX_NO_ADDRESS, /* text of another kind */
	PREFIX_NO_LENGTH,  /* the length after '/' is not valid for the family */
	PREFIX_HOST_BITS,  /* bits beyond the length are set */
	PREFIX_BACKWARDS,  /* a range whose end is before its start, or of the other family */
	PREFIX_NO_MEMORY,
};

/* Appends a prefix. Returns 0 or -ENOMEM. */
int prefixes_add(struct prefixes *prefixes, const struct tproxy_prefix *prefix);
void prefixes_finish(struct prefixes *prefixes);

/*
 * Reads an address, a CIDR, or a range "a-b", and appends its prefixes. Bits beyond the length of a
 * CIDR are cleared if @mask, and refused otherwise. Appends nothing on failure, except for
 * PREFIX_NO_MEMORY.
 */
enum prefix_result prefixes_parse(struct prefixes *prefixes, const char *text, size_t len,
				  bool mask);

/* Appends a single address of 16 bytes. Returns 0 or -ENOMEM. */
int prefixes_add_address(struct prefixes *prefixes, const __u8 addr[16]);

/* Returns true if all addresses of @prefix are in @outer. */
bool prefix_is_within(const struct tproxy_prefix *prefix, const struct tproxy_prefix *outer);
/* Orders by address, then by length: a prefix follows all that contain it. For qsort(3). */
int prefix_compare(const void *a, const void *b);
/* Returns true for a prefix of IPv4 addresses: its length counts from PREFIX_IPV4_BITS. */
#define PREFIX_IPV4_BITS 96
bool prefix_is_ipv4(const struct tproxy_prefix *prefix);
/* Returns true if all addresses are loopback ones: 127.0.0.0/8, 0.0.0.0, ::1, ::. */
bool prefix_is_loopback(const struct tproxy_prefix *prefix);
/* Writes a CIDR; an IPv4 CIDR has a length up to 32, a single address none. Returns buf. */
#define PREFIX_FORMAT_LEN 52
char *prefix_format(const struct tproxy_prefix *prefix, char *buf, size_t size);
/* Clears the bits beyond the length. Returns true if one was set. */
bool prefix_mask(struct tproxy_prefix *prefix);

/*
 * Prefixes that do not inherit the sets of a shorter prefix around them: the loopback prefixes, and
 * all of IPv4, which is not a part of ::/0. Sorted.
 */
#define PREFIX_BARRIERS 5
extern const struct tproxy_prefix prefix_barriers[PREFIX_BARRIERS];

#endif
