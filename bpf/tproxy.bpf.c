// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The kernel half. One redirected connection passes through it in this order:
 *
 *   connect4	    client   in scope? then record the destination, then replace it by the relay's
 *   sockops	    client   TCP_CONNECT: source known, SYN not sent: publish source -> socket
 *   sockops	    relay    PASSIVE_ESTABLISHED: copy the connection to the accepted socket
 *   getsockopt	    relay    SO_ORIGINAL_DST: answer from the accepted socket
 *   getpeername4   client   answer with the destination that was asked for
 *   sockops	    client   STATE -> CLOSE: delete what was recorded and published
 *   sock_release   client   closed without ever having sent a SYN: likewise
 *
 * The rule that orders everything: a destination is replaced only after it has been recorded and
 * only if the listener that will get the connection is alive and carries our mark. In every other
 * case the policy decides in one place, unredirected(): connect directly, or refuse.
 *
 * The hooks run for every socket in scope, so each begins with the cheapest test that tells that
 * a socket is none of ours.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tproxy_abi.h"
#include "maps.bpf.h"
#include "match.bpf.h"

/* From headers that drag in libc or are not UAPI. */
#define AF_INET		2
#define SOCK_STREAM	1
#define SOL_IP		0
#define SO_ORIGINAL_DST 80 /* linux/netfilter_ipv4.h */
#define ECONNREFUSED	111
#define PAGE_SIZE_MIN	4096

/* Return values of cgroup connect programs. */
#define CONNECT_REJECT	0
#define CONNECT_PROCEED 1

static __always_inline void count(enum tproxy_stat stat)
{
	__u32 key = stat;
	__u64 *value = bpf_map_lookup_elem(&map_stats, &key);

	if (value)
		(*value)++;
}

/*
 * The one place for what happens to a connection that should be redirected and cannot be.
 * bpf_set_retval() gives the client ECONNREFUSED; without it a rejection is EPERM (since 5.18).
 */
static __always_inline int unredirected(const struct tproxy_policy *policy, enum tproxy_stat why)
{
	count(why);
	if (!(policy->flags & TPROXY_FAIL_CLOSED))
		return CONNECT_PROCEED;
	count(TPROXY_STAT_REFUSED);
	bpf_set_retval(-ECONNREFUSED);
	return CONNECT_REJECT;
}

/*
 * Deletes what is known of a client's socket. map_ports goes first, see its comment. The tuple may
 * belong to another socket by now, so only an entry that names this one is deleted.
 */
static __always_inline void client_forget(struct client *client, __u64 cookie)
{
	__u64 *owner;

	if (client->published) {
		owner = bpf_map_lookup_elem(&map_ports, &client->tuple);
		if (owner && *owner == cookie)
			bpf_map_delete_elem(&map_ports, &client->tuple);
		client->published = 0;
	}
	if (client->recorded) {
		bpf_map_delete_elem(&map_socks, &cookie);
		client->recorded = 0;
	}
}

/* Is the caller, or the socket that it connects with, a relay's? */
static __always_inline bool is_relay(struct bpf_sock *sk, const struct tproxy_policy *policy)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);

	if (mark && mark->flags & TPROXY_MARK_UPSTREAM)
		return true;
	return policy->relay_cgroup_id &&
	       bpf_get_current_ancestor_cgroup_id(policy->relay_cgroup_level) ==
		       policy->relay_cgroup_id;
}

/*
 * Does a marked listener, one that our sockops sees, get connections to this address? The mark
 * cannot be forged by whoever else binds the port, and it ends with the socket.
 */
static __always_inline bool is_our_listener4(struct bpf_sock_addr *ctx, __be32 ip, __be16 port)
{
	const __u32 wanted = TPROXY_MARK_LISTENER | TPROXY_MARK_HOOKED;
	struct bpf_sock_tuple tuple = {
		.ipv4.daddr = ip,
		.ipv4.dport = port,
	};
	struct tproxy_mark *mark;
	struct bpf_sock *sk;
	bool ours = false;

	sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	if (mark)
		ours = (mark->flags & wanted) == wanted;
	bpf_sk_release(sk);
	return ours;
}

/* Records the destination of a connect() under the socket's cookie. false: it is not recorded. */
static __always_inline bool record(struct bpf_sock *sk, __u64 cookie, __u64 netns_cookie,
				   const struct tproxy_endpoint *dst,
				   const struct tproxy_endpoint *relay)
{
	struct tproxy_conn conn = {
		.started_ns = bpf_ktime_get_ns(),
		.netns_cookie = netns_cookie,
		.cgroup_id = bpf_get_current_cgroup_id(),
		.pid = bpf_get_current_pid_tgid() >> 32,
		.uid = (__u32)bpf_get_current_uid_gid(),
		.dst = *dst,
	};
	struct client *client;

	client = bpf_sk_storage_get(&map_clients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!client)
		return false;
	bpf_get_current_comm(conn.comm, sizeof(conn.comm));
	if (bpf_map_update_elem(&map_socks, &cookie, &conn, BPF_NOEXIST))
		return false;
	client->dst = *dst;
	client->tuple.dst = *relay;
	client->recorded = 1;
	return true;
}

/* In scope, TCP, and not a relay's: to the relay with it, if everything that this needs is there.
 */
static __always_inline int redirect4(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
				     const struct tproxy_policy *policy, __u64 cookie)
{
	const __be16 dport = (__be16)ctx->user_port;
	const __be32 dip = ctx->user_ip4;
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);
	struct tproxy_relay *relay;
	struct tproxy_endpoint dst;
	__be16 relay_port;
	__be32 relay_ip;

	relay = bpf_map_lookup_elem(&map_config, &netns_cookie);
	if (!relay || !relay->listen[TPROXY_INET].port)
		return unredirected(policy, TPROXY_STAT_NO_RELAY);
	relay_ip = endpoint_get4(&relay->listen[TPROXY_INET]);
	relay_port = bpf_htons(relay->listen[TPROXY_INET].port);
	if (!is_our_listener4(ctx, relay_ip, relay_port)) {
		__sync_fetch_and_add(&relay->missed, 1);
		return unredirected(policy, TPROXY_STAT_NO_LISTENER);
	}
	/* To the relay itself, by whichever local address: it will find no destination and reset.
	 */
	if (dport == relay_port && is_our_listener4(ctx, dip, dport)) {
		count(TPROXY_STAT_BYPASS_LISTENER);
		return CONNECT_PROCEED;
	}
	/* A socket bound to a device would send its SYN for a loopback address out there. */
	if (sk->bound_dev_if)
		return unredirected(policy, TPROXY_STAT_BOUND_DEVICE);

	endpoint_set4(&dst, dip, bpf_ntohs(dport));
	if (!record(sk, cookie, netns_cookie, &dst, &relay->listen[TPROXY_INET]))
		return unredirected(policy, TPROXY_STAT_MAP_FULL);

	ctx->user_ip4 = relay_ip;
	ctx->user_port = relay_port;
	count(TPROXY_STAT_REDIRECTED);
	return CONNECT_PROCEED;
}

/*
 * The program may be attached to a cgroup and to one above it, while a loader changes the one for
 * the other: then it runs twice for a connect(), the second time on the address of the relay.
 */
static __always_inline bool is_redirected4(const struct client *client, __be32 ip, __be16 port)
{
	return client->recorded && !client->published && endpoint_get4(&client->tuple.dst) == ip &&
	       client->tuple.dst.port == bpf_ntohs(port);
}

SEC("cgroup/connect4")
int tproxy_connect4(struct bpf_sock_addr *ctx)
{
	const struct tproxy_policy *policy;
	struct bpf_sock *sk = ctx->sk;
	__be32 dip = ctx->user_ip4;
	struct client *client;
	__u32 key = 0;
	__u64 cookie;

	if (ctx->protocol != IPPROTO_TCP || ctx->type != SOCK_STREAM || !sk)
		return CONNECT_PROCEED;

	cookie = bpf_get_socket_cookie(ctx);
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client) {
		if (is_redirected4(client, dip, (__be16)ctx->user_port))
			return CONNECT_PROCEED;
		/* A socket that connects again, after a failure or AF_UNSPEC, starts anew. */
		client_forget(client, cookie);
	}

	policy = bpf_map_lookup_elem(&map_policy, &key);
	if (!policy || policy->abi_version != TPROXY_ABI_VERSION)
		return CONNECT_PROCEED;

	switch (match_dst4((__u8 *)&dip, policy->flags)) {
	case MATCH_BYPASS_LOOPBACK:
		count(TPROXY_STAT_BYPASS_LOOPBACK);
		return CONNECT_PROCEED;
	case MATCH_BYPASS_MULTICAST:
		count(TPROXY_STAT_BYPASS_MULTICAST);
		return CONNECT_PROCEED;
	case MATCH_REDIRECT:
		break;
	}
	if (is_relay(sk, policy)) {
		count(TPROXY_STAT_BYPASS_RELAY);
		return CONNECT_PROCEED;
	}
	return redirect4(ctx, sk, policy, cookie);
}

/* remote_port is a 32-bit load of a 16-bit field: network byte order, in the upper half. */
static __always_inline __u16 remote_port(const struct bpf_sock_ops *ctx)
{
	return (__u16)bpf_ntohl(ctx->remote_port);
}

/* TCP_CONNECT_CB: the source is chosen and the SYN not yet sent. Make both findable. */
static __always_inline void client_publish(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	struct tproxy_conn *conn;
	__u64 cookie;

	if (!client || !client->recorded)
		return;
	cookie = bpf_get_socket_cookie(ctx);
	client->tuple.netns_cookie = bpf_get_netns_cookie(ctx);
	endpoint_set4(&client->tuple.src, ctx->local_ip4, (__u16)ctx->local_port);
	endpoint_set4(&client->tuple.dst, ctx->remote_ip4, remote_port(ctx));
	conn = bpf_map_lookup_elem(&map_socks, &cookie);
	if (conn)
		conn->src = client->tuple.src;
	if (bpf_map_update_elem(&map_ports, &client->tuple, &cookie, BPF_ANY)) {
		count(TPROXY_STAT_UNPUBLISHED);
		return;
	}
	client->published = 1;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/*
 * PASSIVE_ESTABLISHED_CB of a socket that a marked listener accepted: the mark came with it. The
 * connection is copied there now, because the client may close before the relay gets to ask.
 */
static __always_inline void accepted_record(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	struct tproxy_tuple tuple = {};
	struct tproxy_conn *conn;
	__u64 *cookie;

	if (!mark || !(mark->flags & TPROXY_MARK_LISTENER))
		return;
	tuple.netns_cookie = bpf_get_netns_cookie(ctx);
	endpoint_set4(&tuple.src, ctx->remote_ip4, remote_port(ctx));
	endpoint_set4(&tuple.dst, ctx->local_ip4, (__u16)ctx->local_port);
	cookie = bpf_map_lookup_elem(&map_ports, &tuple);
	if (!cookie)
		return;
	conn = bpf_map_lookup_elem(&map_socks, cookie);
	if (!conn)
		return;
	mark->conn = *conn;
	mark->flags |= TPROXY_MARK_RECORDED;
}

/* TCP_LISTEN_CB: tells a relay that connections to this listener will pass through sockops. */
static __always_inline void listener_confirm(struct bpf_sock *sk)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);

	if (mark && mark->flags & TPROXY_MARK_LISTENER)
		mark->flags |= TPROXY_MARK_HOOKED;
}

static __always_inline void client_close(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);

	if (client)
		client_forget(client, bpf_get_socket_cookie(ctx));
}

SEC("sockops")
int tproxy_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		client_publish(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		accepted_record(ctx, sk);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		listener_confirm(sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			client_close(ctx, sk);
		break;
	}
	return 1;
}

/*
 * A published socket is left to STATE_CB, which comes when the connection ends. Its last close()
 * may come before the relay's side of the handshake has looked the destination up.
 */
SEC("cgroup/sock_release")
int tproxy_release(struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);

	if (client && client->recorded && !client->published)
		client_forget(client, bpf_get_socket_cookie(sk));
	return 1;
}

SEC("cgroup/getpeername4")
int tproxy_getpeer4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct client *client;

	if (!sk)
		return 1;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client && client->recorded) {
		ctx->user_ip4 = endpoint_get4(&client->dst);
		ctx->user_port = bpf_htons(client->dst.port);
	}
	return 1;
}

/*
 * Each answer below returns its size, or 0 for no answer: then the kernel's own one, an error,
 * stands. So it does for a buffer that is too small.
 */
static __always_inline __s32 answer_whoami(void *optval, void *end, const struct tproxy_mark *mark)
{
	struct tproxy_whoami *whoami = optval;

	if ((void *)(whoami + 1) > end)
		return 0;
	whoami->abi_version = TPROXY_ABI_VERSION;
	whoami->pid = bpf_get_current_pid_tgid() >> 32;
	whoami->uid = (__u32)bpf_get_current_uid_gid();
	whoami->mark_flags = mark->flags;
	return sizeof(*whoami);
}

static __always_inline __s32 answer_conn(void *optval, void *end, const struct tproxy_mark *mark)
{
	struct tproxy_conn *conn = optval;

	if (!(mark->flags & TPROXY_MARK_RECORDED) || (void *)(conn + 1) > end)
		return 0;
	*conn = mark->conn;
	return sizeof(*conn);
}

static __always_inline __s32 answer_original_dst4(void *optval, void *end,
						  const struct tproxy_mark *mark)
{
	struct sockaddr_in *sin = optval;

	if (!(mark->flags & TPROXY_MARK_RECORDED) || (void *)(sin + 1) > end)
		return 0;
	__builtin_memset(sin, 0, sizeof(*sin));
	sin->sin_family = AF_INET;
	sin->sin_port = bpf_htons(mark->conn.dst.port);
	sin->sin_addr.s_addr = endpoint_get4(&mark->conn.dst);
	return sizeof(*sin);
}

/*
 * The kernel shows programs one page of a longer buffer and fails the call with EFAULT if it is
 * handed back; length 0 means "leave the caller's buffer as it is" (Documentation/bpf/
 * prog_cgroup_sockopt.rst).
 */
static __always_inline int sockopt_pass(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > PAGE_SIZE_MIN)
		ctx->optlen = 0;
	return 1;
}

SEC("cgroup/getsockopt")
int tproxy_sockopt(struct bpf_sockopt *ctx)
{
	const struct tproxy_mark *mark;
	__s32 size = 0;

	if (ctx->level != SOL_IP || !ctx->sk)
		return sockopt_pass(ctx);
	if (ctx->optname != SO_ORIGINAL_DST && ctx->optname != TPROXY_SO_CONN &&
	    ctx->optname != TPROXY_SO_WHOAMI)
		return sockopt_pass(ctx);
	mark = bpf_sk_storage_get(&map_marks, ctx->sk, NULL, 0);
	if (!mark)
		return sockopt_pass(ctx);

	switch (ctx->optname) {
	case TPROXY_SO_WHOAMI:
		size = answer_whoami(ctx->optval, ctx->optval_end, mark);
		break;
	case TPROXY_SO_CONN:
		size = answer_conn(ctx->optval, ctx->optval_end, mark);
		break;
	case SO_ORIGINAL_DST:
		size = answer_original_dst4(ctx->optval, ctx->optval_end, mark);
		break;
	}
	if (!size)
		return sockopt_pass(ctx);
	ctx->optlen = size;
	/* Not one 64-bit store with the line above, which the verifier refuses. */
	barrier();
	ctx->retval = 0;
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
