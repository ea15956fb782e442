/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What several parts of tproxy_abi.h use: addresses, prefixes, limits. */
#ifndef TPROXY_ABI_BASE_H
#define TPROXY_ABI_BASE_H

#include <linux/types.h>

#define TPROXY_COMM_LEN 16
/* Ports of one relay in each family: one for each of its listening sockets. */
#define TPROXY_PORTS_MAX 64

/*
 * An address of either family as tproxy_abi.h describes it, and a port in host byte order. Aligned,
 * because clang reads what may not be aligned byte by byte for BPF.
 */
struct tproxy_endpoint {
	__u8 addr[16] __attribute__((aligned(4)));
	__u16 port;
	__u16 reserved;
};

/* Key of map_sets[i] and of the tries of the block list. An IPv4 prefix of n bits is one of 96 + n
 * bits, as in tproxy_endpoint. */
struct tproxy_prefix {
	__u32 n_bits;
	__u8 addr[16];
};
/* Entries of such a map. */
#define TPROXY_PREFIXES_MAX (1 << 20)

_Static_assert(sizeof(struct tproxy_endpoint) == 20, "ABI");
_Static_assert(sizeof(struct tproxy_prefix) == 20, "ABI");

#endif
