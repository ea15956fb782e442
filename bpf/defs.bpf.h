/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shared by all programs: constants that UAPI headers lack, access to addresses in a context.
 */
#ifndef TPROXY_DEFS_BPF_H
#define TPROXY_DEFS_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "endpoint.bpf.h"
#include "tproxy_abi.h"

/* Defined in headers that include libc's, or that are not UAPI. */
#define AF_INET		 2
#define AF_INET6	 10
#define SOCK_STREAM	 1
#define SOL_IP		 0
#define SO_ORIGINAL_DST	 80 /* linux/netfilter_ipv4.h */
#define SOL_SOCKET	 1
#define SO_KEEPALIVE	 9
#define SO_BINDTOIFINDEX 62
#define SOL_TCP		 6
#define TCP_KEEPIDLE	 4
#define TCP_KEEPINTVL	 5
#define TCP_KEEPCNT	 6
#define TCP_SYNCNT	 7
#define TCP_USER_TIMEOUT 18
#define SOL_IPV6	 41
#define PAGE_SIZE_MIN	 4096

/*
 * Copy an IPv6 address (four words, network byte order) from and to a context. volatile keeps clang
 * from merging neighbouring accesses into wider ones, which the verifier rejects.
 */
static __always_inline void load_words(__be32 *to, const volatile __u32 *ctx_words)
{
	to[0] = ctx_words[0];
	to[1] = ctx_words[1];
	to[2] = ctx_words[2];
	to[3] = ctx_words[3];
}

static __always_inline void store_words(volatile __u32 *ctx_words, const struct tproxy_endpoint *ep)
{
	ctx_words[0] = endpoint_word(ep, 0);
	ctx_words[1] = endpoint_word(ep, 1);
	ctx_words[2] = endpoint_word(ep, 2);
	ctx_words[3] = endpoint_word(ep, 3);
}

/*
 * ctx->remote_port is 32 bits wide and holds the 16-bit port in network byte order, in its upper
 * half: bpf_ntohl() converts it.
 */
static __always_inline __u16 remote_port(const struct bpf_sock_ops *ctx)
{
	return (__u16)bpf_ntohl(ctx->remote_port);
}

/* Reads both ends of the socket: local is this socket's own address and port, remote its peer's. */
static __always_inline void ends_of(const struct bpf_sock_ops *ctx, struct tproxy_endpoint *local,
				    struct tproxy_endpoint *remote)
{
	__be32 ip[4];

	if (ctx->family == AF_INET) {
		endpoint_set4(local, ctx->local_ip4, (__u16)ctx->local_port);
		endpoint_set4(remote, ctx->remote_ip4, remote_port(ctx));
		return;
	}
	load_words(ip, ctx->local_ip6);
	endpoint_set6(local, ip, (__u16)ctx->local_port);
	load_words(ip, ctx->remote_ip6);
	endpoint_set6(remote, ip, remote_port(ctx));
}

static __always_inline long set_option(struct bpf_sock_ops *ctx, int level, int name, int value)
{
	return bpf_setsockopt(ctx, level, name, &value, sizeof(value));
}

#endif
