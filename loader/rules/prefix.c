// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Reads and compares prefixes, see prefix.h. */
#include "prefix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/address.h"
#include "util.h"

/* The two loopback prefixes that are neighbours, :: and ::1. */
static const struct tproxy_prefix loopback_pair = { PREFIX_BITS_MAX - 1, { 0 } };

static const struct tproxy_prefix barrier_of_ipv4 = { PREFIX_IPV4_BITS, { [10] = 0xff, 0xff } };

const struct tproxy_prefix prefix_barriers[PREFIX_BARRIERS] = {
	{ 128, { 0 } },						     /* :: */
	{ 128, { [15] = 1 } },					     /* ::1 */
	{ PREFIX_IPV4_BITS, { [10] = 0xff, 0xff } },		     /* IPv4 */
	{ 128, { [10] = 0xff, 0xff } },				     /* 0.0.0.0 */
	{ PREFIX_IPV4_BITS + 8, { [10] = 0xff, 0xff, [12] = 127 } }, /* 127.0.0.0/8 */
};

static int add(struct prefixes *prefixes, const struct tproxy_prefix *prefix)
{
	if (prefixes->n == prefixes->room) {
		const size_t room = prefixes->room ? 2 * prefixes->room : 4;
		struct tproxy_prefix *list =
			reallocarray(prefixes->list, room, sizeof(*prefixes->list));

		if (!list)
			return -ENOMEM;
		prefixes->list = list;
		prefixes->room = room;
	}
	prefixes->list[prefixes->n++] = *prefix;
	return 0;
}

/* ::/127 is added as its two addresses, because each of them is a barrier. */
int prefixes_add(struct prefixes *prefixes, const struct tproxy_prefix *prefix)
{
	struct tproxy_prefix half = *prefix;

	if (prefix_compare(prefix, &loopback_pair) != 0)
		return add(prefixes, prefix);
	half.n_bits++;
	if (add(prefixes, &half) < 0)
		return -ENOMEM;
	half.addr[15] = 1;
	return add(prefixes, &half);
}

void prefixes_finish(struct prefixes *prefixes)
{
	free(prefixes->list);
	*prefixes = (struct prefixes){};
}

int prefixes_add_address(struct prefixes *prefixes, const __u8 addr[16])
{
	struct tproxy_prefix prefix = { .n_bits = PREFIX_BITS_MAX };

	memcpy(prefix.addr, addr, sizeof(prefix.addr));
	return prefixes_add(prefixes, &prefix);
}

/* Returns the byte of a mask of n_bits. */
static __u8 mask_byte(unsigned int n_bits, unsigned int byte)
{
	if (n_bits >= 8 * byte + 8)
		return 0xff;
	return n_bits <= 8 * byte ? 0 : (__u8)(0xff00 >> (n_bits - 8 * byte));
}

bool prefix_mask(struct tproxy_prefix *prefix)
{
	bool was_set = false;
	unsigned int i;

	for (i = prefix->n_bits / 8; i < sizeof(prefix->addr); i++) {
		const __u8 mask = mask_byte(prefix->n_bits, i);

		was_set = was_set || prefix->addr[i] & ~mask;
		prefix->addr[i] &= mask;
	}
	return was_set;
}

bool prefix_is_within(const struct tproxy_prefix *prefix, const struct tproxy_prefix *outer)
{
	const unsigned int whole = outer->n_bits / 8;

	if (prefix->n_bits < outer->n_bits || memcmp(prefix->addr, outer->addr, whole) != 0)
		return false;
	return outer->n_bits % 8 == 0 ||
	       !((prefix->addr[whole] ^ outer->addr[whole]) & mask_byte(outer->n_bits, whole));
}

bool prefix_is_ipv4(const struct tproxy_prefix *prefix)
{
	return prefix_is_within(prefix, &barrier_of_ipv4);
}

int prefix_compare(const void *a, const void *b)
{
	const struct tproxy_prefix *one = a, *other = b;
	const int r = memcmp(one->addr, other->addr, sizeof(one->addr));

	if (r != 0)
		return r;
	return (one->n_bits > other->n_bits) - (one->n_bits < other->n_bits);
}

bool prefix_is_loopback(const struct tproxy_prefix *prefix)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(prefix_barriers); i++) {
		if (prefix_barriers[i].n_bits != PREFIX_IPV4_BITS &&
		    prefix_is_within(prefix, &prefix_barriers[i]))
			return true;
	}
	return prefix_is_within(prefix, &loopback_pair);
}

char *prefix_format(const struct tproxy_prefix *prefix, char *buf, size_t size)
{
	const bool ipv4 = prefix_is_ipv4(prefix);
	char text[INET6_ADDRSTRLEN];

	if (ipv4)
		inet_ntop(AF_INET, prefix->addr + PREFIX_IPV4_BITS / 8, text, sizeof(text));
	else
		inet_ntop(AF_INET6, prefix->addr, text, sizeof(text));
	if (prefix->n_bits == PREFIX_BITS_MAX)
		snprintf(buf, size, "%s", text);
	else
		snprintf(buf, size, "%s/%u", text, prefix->n_bits - (ipv4 ? PREFIX_IPV4_BITS : 0));
	return buf;
}

/* Returns true for an IPv4 address, in whichever form it was written. */
static bool is_ipv4(const __u8 addr[16])
{
	return memcmp(addr, barrier_of_ipv4.addr, PREFIX_IPV4_BITS / 8) == 0;
}

/* Reads an address. *ret_mapped is the number of bits before it. */
static bool parse_address(const char *text, size_t len, __u8 ret_addr[16], unsigned int *ret_mapped)
{
	char copy[INET6_ADDRSTRLEN];
	__u8 ipv4[4];

	if (len >= sizeof(copy) || memchr(text, '\0', len))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (inet_pton(AF_INET, copy, ipv4) == 1) {
		address_map4(ret_addr, ipv4);
		*ret_mapped = PREFIX_IPV4_BITS;
		return true;
	}
	*ret_mapped = 0;
	return inet_pton(AF_INET6, copy, ret_addr) == 1;
}

/* Reads a number of at most three digits, without leading zeros, as inet_pton() wants octets. */
static bool parse_length(const char *text, size_t len, unsigned int *ret_length)
{
	unsigned int value = 0;
	size_t i;

	if (len == 0 || len > 3 || (len > 1 && *text == '0'))
		return false;
	for (i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = 10 * value + (unsigned int)(text[i] - '0');
	}
	*ret_length = value;
	return true;
}

static enum prefix_result add_cidr(struct prefixes *prefixes, const char *text, size_t len,
				   const char *slash, bool mask)
{
	const char *length = slash + 1;
	struct tproxy_prefix prefix = {};
	unsigned int mapped, n_bits;
	bool masked;

	if (!parse_address(text, (size_t)(slash - text), prefix.addr, &mapped))
		return PREFIX_NO_ADDRESS;
	if (!parse_length(length, (size_t)(text + len - length), &n_bits) ||
	    mapped + n_bits > PREFIX_BITS_MAX)
		return PREFIX_NO_LENGTH;
	prefix.n_bits = mapped + n_bits;
	masked = prefix_mask(&prefix);
	if (masked && !mask)
		return PREFIX_HOST_BITS;
	if (prefixes_add(prefixes, &prefix) < 0)
		return PREFIX_NO_MEMORY;
	return masked ? PREFIX_MASKED : PREFIX_OK;
}

struct range {
	__u8 first[16], last[16];
	bool ipv4;     /* both ends are IPv4 addresses */
	bool loopback; /* all addresses are loopback ones */
};

/*
 * Returns true if a part of a range is IPv4 in a range of IPv6 addresses, or loopback in a range
 * that contains other addresses: a CIDR contains neither (prefix_barriers).
 */
static bool is_left_out(const struct range *range, const struct tproxy_prefix *part)
{
	return (!range->ipv4 && prefix_is_within(part, &barrier_of_ipv4)) ||
	       (!range->loopback && prefix_is_loopback(part));
}

/*
 * Adds the prefixes below @prefix that make up its addresses in the range. At each level at most
 * two prefixes are split, so this ends after some 4 * 128 calls.
 */
static int add_part(struct prefixes *prefixes, struct tproxy_prefix prefix,
		    const struct range *range)
{
	const __u8 *first = range->first, *last = range->last;
	__u8 end[16];
	unsigned int i;

	for (i = 0; i < sizeof(end); i++)
		end[i] = prefix.addr[i] | (__u8)~mask_byte(prefix.n_bits, i);
	if (memcmp(end, first, sizeof(end)) < 0 || memcmp(prefix.addr, last, sizeof(end)) > 0)
		return 0;
	if (memcmp(prefix.addr, first, sizeof(end)) >= 0 && memcmp(end, last, sizeof(end)) <= 0)
		return is_left_out(range, &prefix) ? 0 : prefixes_add(prefixes, &prefix);
	prefix.n_bits++;
	if (add_part(prefixes, prefix, range) < 0)
		return -ENOMEM;
	i = prefix.n_bits - 1;
	prefix.addr[i / 8] |= (__u8)(0x80 >> i % 8);
	return add_part(prefixes, prefix, range);
}

/* Returns the longest prefix that contains the range. */
static struct tproxy_prefix prefix_around(const struct range *range)
{
	struct tproxy_prefix around = {};

	memcpy(around.addr, range->first, sizeof(around.addr));
	while (around.n_bits < PREFIX_BITS_MAX &&
	       !((range->first[around.n_bits / 8] ^ range->last[around.n_bits / 8]) &
		 0x80 >> around.n_bits % 8))
		around.n_bits++;
	prefix_mask(&around);
	return around;
}

static enum prefix_result add_range(struct prefixes *prefixes, const char *text, size_t len,
				    const char *hyphen)
{
	struct tproxy_prefix around;
	struct range range;
	unsigned int mapped, mapped_last;

	if (!parse_address(text, (size_t)(hyphen - text), range.first, &mapped) ||
	    !parse_address(hyphen + 1, (size_t)(text + len - hyphen - 1), range.last, &mapped_last))
		return PREFIX_NO_ADDRESS;
	range.ipv4 = is_ipv4(range.first);
	if (mapped != mapped_last || range.ipv4 != is_ipv4(range.last) ||
	    memcmp(range.first, range.last, sizeof(range.first)) > 0)
		return PREFIX_BACKWARDS;
	around = prefix_around(&range);
	range.loopback = prefix_is_loopback(&around);
	return add_part(prefixes, around, &range) < 0 ? PREFIX_NO_MEMORY : PREFIX_OK;
}

enum prefix_result prefixes_parse(struct prefixes *prefixes, const char *text, size_t len,
				  bool mask)
{
	const char *slash = memchr(text, '/', len), *hyphen = memchr(text, '-', len);
	__u8 addr[16];
	unsigned int mapped;

	if (slash)
		return add_cidr(prefixes, text, len, slash, mask);
	if (hyphen)
		return add_range(prefixes, text, len, hyphen);
	if (!parse_address(text, len, addr, &mapped))
		return PREFIX_NO_ADDRESS;
	return prefixes_add_address(prefixes, addr) < 0 ? PREFIX_NO_MEMORY : PREFIX_OK;
}
