/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The getsockopt() answers for a relay's sockets. */
#ifndef TPROXY_GETSOCKOPT_BPF_H
#define TPROXY_GETSOCKOPT_BPF_H

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "flow.bpf.h"
#include "policy.bpf.h"
#include "tproxy_abi.h"

/*
 * Each of these functions returns the number of bytes written to optval, or 0 to leave the kernel's
 * own result (an error) in place. A buffer that is too small gives 0 too.
 */
static __always_inline __s32 getsockopt_whoami(void *optval, void *end,
					       const struct tproxy_mark *mark)
{
	struct tproxy_whoami *whoami = optval;
	const struct tproxy_policy *policy;

	if ((void *)(whoami + 1) > end)
		return 0;
	whoami->abi_version = TPROXY_ABI_VERSION;
	whoami->pid = bpf_get_current_pid_tgid() >> 32;
	whoami->uid = (__u32)bpf_get_current_uid_gid();
	whoami->mark_flags = mark->flags;
	policy = get_policy();
	if (policy && in_relay_cgroup(policy))
		whoami->mark_flags |= TPROXY_MARK_EXEMPT;
	return sizeof(*whoami);
}

static __always_inline __s32 getsockopt_conn(void *optval, void *end,
					     const struct tproxy_mark *mark)
{
	struct tproxy_conn *conn = optval;

	if (!(mark->flags & TPROXY_MARK_HAS_CONN) || (void *)(conn + 1) > end)
		return 0;
	*conn = mark->conn;
	if (capture_is_alive())
		conn->flags |= TPROXY_CONN_CAPTURED;
	return sizeof(*conn);
}

static __always_inline __s32 getsockopt_original_dst4(void *optval, void *end,
						      const struct tproxy_mark *mark)
{
	struct sockaddr_in *sin = optval;

	if (!(mark->flags & TPROXY_MARK_HAS_CONN) || !endpoint_is_mapped4(&mark->conn.dst) ||
	    (void *)(sin + 1) > end)
		return 0;
	__builtin_memset(sin, 0, sizeof(*sin));
	sin->sin_family = AF_INET;
	sin->sin_port = bpf_htons(mark->conn.dst.port);
	sin->sin_addr.s_addr = endpoint_get4(&mark->conn.dst);
	return sizeof(*sin);
}

static __always_inline __s32 getsockopt_original_dst6(void *optval, void *end,
						      const struct tproxy_mark *mark)
{
	struct sockaddr_in6 *sin6 = optval;

	if (!(mark->flags & TPROXY_MARK_HAS_CONN) || endpoint_is_mapped4(&mark->conn.dst) ||
	    (void *)(sin6 + 1) > end)
		return 0;
	__builtin_memset(sin6, 0, sizeof(*sin6));
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = bpf_htons(mark->conn.dst.port);
	__builtin_memcpy(&sin6->sin6_addr, mark->conn.dst.addr, sizeof(mark->conn.dst.addr));
	return sizeof(*sin6);
}

/*
 * Leaves the kernel's result in place. The kernel shows a program only one page of a longer buffer,
 * and fails the call with EFAULT if the program leaves optlen above that. An optlen of 0 means
 * "leave the caller's buffer as it is" (Documentation/bpf/prog_cgroup_sockopt.rst).
 */
static __always_inline int getsockopt_pass(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > PAGE_SIZE_MIN)
		ctx->optlen = 0;
	return 1;
}

/*
 * Fails SO_ORIGINAL_DST with ENOENT if there is no record. Otherwise the relay would take the
 * answer of conntrack, where it is loaded, for tproxy's: for a direct connection to the relay that
 * is the relay's own address.
 */
static __always_inline int getsockopt_deny(struct bpf_sockopt *ctx)
{
	bpf_set_retval(-ENOENT);
	return 1;
}

#endif
