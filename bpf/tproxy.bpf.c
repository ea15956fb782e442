// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The kernel half. One redirected connection passes through it in this order:
 *
 *   connect4, 6    client   in scope? then record the destination, then replace it by the relay's
 *   sockops	    client   TCP_CONNECT: source known, SYN not sent: publish source -> socket
 *   sockops	    relay    PASSIVE_ESTABLISHED: copy the connection to the accepted socket
 *   getsockopt	    relay    SO_ORIGINAL_DST: answer from the accepted socket
 *   getpeername4, 6  client  answer with the destination that was asked for
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
#include <linux/in6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tproxy_abi.h"
#include "maps.bpf.h"
#include "match.bpf.h"

/* From headers that drag in libc or are not UAPI. */
#define AF_INET		2
#define AF_INET6	10
#define SOCK_STREAM	1
#define SOL_IP		0
#define SOL_IPV6	41
#define SO_ORIGINAL_DST 80 /* linux/netfilter_ipv4.h */
#define ENETUNREACH	101
#define ETIMEDOUT	110
#define ECONNREFUSED	111
#define EHOSTUNREACH	113
#define PAGE_SIZE_MIN	4096

/* Return values of cgroup connect programs, and what connect_decide() adds to them. */
enum {
	CONNECT_REJECT = 0,
	CONNECT_PROCEED = 1,
	CONNECT_REDIRECT,
};

/*
 * An IPv6 address in a context, word by word: volatile, because clang would join neighbouring
 * accesses into wider ones, which the verifier refuses.
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
static __always_inline bool is_our_listener(struct bpf_sock_addr *ctx,
					    const struct tproxy_endpoint *ep)
{
	const __u32 wanted = TPROXY_MARK_LISTENER | TPROXY_MARK_HOOKED;
	struct bpf_sock_tuple tuple = {};
	__u32 size = sizeof(tuple.ipv6);
	struct tproxy_mark *mark;
	struct bpf_sock *sk;
	bool ours = false;

	if (endpoint_is_mapped4(ep)) {
		tuple.ipv4.daddr = endpoint_get4(ep);
		tuple.ipv4.dport = bpf_htons(ep->port);
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.daddr, ep->addr, sizeof(ep->addr));
		tuple.ipv6.dport = bpf_htons(ep->port);
	}
	sk = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	if (mark)
		ours = (mark->flags & wanted) == wanted;
	bpf_sk_release(sk);
	return ours;
}

/*
 * What a relay found out about this destination a moment ago: an errno, or 0. Only those that say
 * something of a destination: the map may hold anything.
 */
static __always_inline __u32 known_error(__u64 netns_cookie, const struct tproxy_endpoint *dst,
					 __u64 now_ns)
{
	struct tproxy_failed_key key = { .netns_cookie = netns_cookie, .dst = *dst };
	const struct tproxy_failed *failed = bpf_map_lookup_elem(&map_failed, &key);

	if (!failed || failed->expires_ns <= now_ns)
		return 0;
	switch (failed->error) {
	case ECONNREFUSED:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ETIMEDOUT:
		return failed->error;
	}
	return 0;
}

/* Records the destination of a connect() under the socket's cookie. false: it is not recorded. */
static __always_inline bool record(struct bpf_sock *sk, __u64 cookie, __u64 netns_cookie,
				   const struct tproxy_endpoint *dst,
				   const struct tproxy_endpoint *relay, __u64 now_ns)
{
	struct tproxy_conn conn = {
		.started_ns = now_ns,
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

/*
 * In scope, TCP, and not a relay's: to the relay with it, if everything that this needs is there.
 * *ret_relay is where that is.
 */
static __always_inline int redirect(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
				    const struct tproxy_policy *policy, __u64 cookie,
				    const struct tproxy_endpoint *dst,
				    struct tproxy_endpoint *ret_relay)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx), now_ns = bpf_ktime_get_ns();
	struct tproxy_relay *relay;
	__u32 error;

	relay = bpf_map_lookup_elem(&map_config, &netns_cookie);
	if (!relay)
		return unredirected(policy, TPROXY_STAT_NO_RELAY);
	*ret_relay = relay->listen[endpoint_is_mapped4(dst) ? TPROXY_INET : TPROXY_INET6];
	/* Of the other family it would be read as another address. */
	if (!ret_relay->port || endpoint_is_mapped4(ret_relay) != endpoint_is_mapped4(dst))
		return unredirected(policy, TPROXY_STAT_NO_RELAY);
	if (!is_our_listener(ctx, ret_relay)) {
		__sync_fetch_and_add(&relay->missed, 1);
		return unredirected(policy, TPROXY_STAT_NO_LISTENER);
	}
	if (relay->alive_ns && now_ns > relay->alive_ns + TPROXY_STALE_NS) {
		__sync_fetch_and_add(&relay->missed, 1);
		return unredirected(policy, TPROXY_STAT_STALLED);
	}
	/* To the relay itself, by any local address: it finds no destination and resets. */
	if (dst->port == ret_relay->port && is_our_listener(ctx, dst)) {
		count(TPROXY_STAT_BYPASS_LISTENER);
		return CONNECT_PROCEED;
	}
	/* A socket bound to a device would send its SYN for a loopback address out there. */
	if (sk->bound_dev_if)
		return unredirected(policy, TPROXY_STAT_BOUND_DEVICE);

	error = known_error(netns_cookie, dst, now_ns);
	if (error) {
		count(TPROXY_STAT_KNOWN_FAILED);
		bpf_set_retval(-(int)error);
		return CONNECT_REJECT;
	}
	if (!record(sk, cookie, netns_cookie, dst, ret_relay, now_ns))
		return unredirected(policy, TPROXY_STAT_MAP_FULL);
	count(TPROXY_STAT_REDIRECTED);
	return CONNECT_REDIRECT;
}

/*
 * The program may be attached to a cgroup and to one above it, while a loader changes the one for
 * the other: then it runs twice for a connect(), the second time on the address of the relay.
 */
static __always_inline bool is_redirected(const struct client *client,
					  const struct tproxy_endpoint *dst)
{
	return client->recorded && !client->published && endpoint_equal(&client->tuple.dst, dst);
}

/* What becomes of this connect(); CONNECT_REDIRECT: the caller puts *ret_relay in place of dst. */
static __always_inline int connect_decide(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					  const struct tproxy_endpoint *dst,
					  struct tproxy_endpoint *ret_relay)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	const struct tproxy_policy *policy;
	struct client *client;
	__u32 key = 0;

	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client) {
		if (is_redirected(client, dst))
			return CONNECT_PROCEED;
		/* A socket that connects again, after a failure or AF_UNSPEC, starts anew. */
		client_forget(client, cookie);
	}
	policy = bpf_map_lookup_elem(&map_policy, &key);
	if (!policy || policy->abi_version != TPROXY_ABI_VERSION)
		return CONNECT_PROCEED;
	if (is_relay(sk, policy)) {
		count(TPROXY_STAT_BYPASS_RELAY);
		return CONNECT_PROCEED;
	}
	switch (match_dst(dst, policy->flags)) {
	case MATCH_BYPASS_LOOPBACK:
		count(TPROXY_STAT_BYPASS_LOOPBACK);
		return CONNECT_PROCEED;
	case MATCH_BYPASS_MULTICAST:
		count(TPROXY_STAT_BYPASS_MULTICAST);
		return CONNECT_PROCEED;
	case MATCH_LINK_LOCAL:
		return unredirected(policy, TPROXY_STAT_LINK_LOCAL);
	case MATCH_REDIRECT:
		break;
	}
	return redirect(ctx, sk, policy, cookie, dst, ret_relay);
}

static __always_inline bool is_tcp(const struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP && ctx->type == SOCK_STREAM;
}

SEC("cgroup/connect4")
int tproxy_connect4(struct bpf_sock_addr *ctx)
{
	struct tproxy_endpoint dst, relay;
	struct bpf_sock *sk = ctx->sk;
	int r;

	if (!is_tcp(ctx) || !sk)
		return CONNECT_PROCEED;
	endpoint_set4(&dst, ctx->user_ip4, bpf_ntohs((__be16)ctx->user_port));
	r = connect_decide(ctx, sk, &dst, &relay);
	if (r != CONNECT_REDIRECT)
		return r;
	ctx->user_ip4 = endpoint_get4(&relay);
	ctx->user_port = bpf_htons(relay.port);
	return CONNECT_PROCEED;
}

/* IPv4-mapped destinations arrive here too, from Java, Go and other dual-stack programs. */
SEC("cgroup/connect6")
int tproxy_connect6(struct bpf_sock_addr *ctx)
{
	struct tproxy_endpoint dst, relay;
	struct bpf_sock *sk = ctx->sk;
	__be32 ip[4];
	int r;

	if (!is_tcp(ctx) || !sk)
		return CONNECT_PROCEED;
	load_words(ip, ctx->user_ip6);
	endpoint_set6(&dst, ip, bpf_ntohs((__be16)ctx->user_port));
	r = connect_decide(ctx, sk, &dst, &relay);
	if (r != CONNECT_REDIRECT)
		return r;
	store_words(ctx->user_ip6, &relay);
	ctx->user_port = bpf_htons(relay.port);
	return CONNECT_PROCEED;
}

/* remote_port is a 32-bit load of a 16-bit field: network byte order, in the upper half. */
static __always_inline __u16 remote_port(const struct bpf_sock_ops *ctx)
{
	return (__u16)bpf_ntohl(ctx->remote_port);
}

/* Both ends of the socket, as the key's src and dst see them from the local side. */
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
	ends_of(ctx, &client->tuple.src, &client->tuple.dst);
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
	ends_of(ctx, &tuple.dst, &tuple.src);
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

/* The destination that this socket asked for, NULL if it was not redirected. */
static __always_inline const struct tproxy_endpoint *asked_for(struct bpf_sock *sk)
{
	const struct client *client;

	if (!sk)
		return NULL;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	return client && client->recorded ? &client->dst : NULL;
}

SEC("cgroup/getpeername4")
int tproxy_getpeer4(struct bpf_sock_addr *ctx)
{
	const struct tproxy_endpoint *dst = asked_for(ctx->sk);

	if (dst) {
		ctx->user_ip4 = endpoint_get4(dst);
		ctx->user_port = bpf_htons(dst->port);
	}
	return 1;
}

SEC("cgroup/getpeername6")
int tproxy_getpeer6(struct bpf_sock_addr *ctx)
{
	const struct tproxy_endpoint *dst = asked_for(ctx->sk);

	if (dst) {
		store_words(ctx->user_ip6, dst);
		ctx->user_port = bpf_htons(dst->port);
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

	if (!(mark->flags & TPROXY_MARK_RECORDED) || !endpoint_is_mapped4(&mark->conn.dst) ||
	    (void *)(sin + 1) > end)
		return 0;
	__builtin_memset(sin, 0, sizeof(*sin));
	sin->sin_family = AF_INET;
	sin->sin_port = bpf_htons(mark->conn.dst.port);
	sin->sin_addr.s_addr = endpoint_get4(&mark->conn.dst);
	return sizeof(*sin);
}

static __always_inline __s32 answer_original_dst6(void *optval, void *end,
						  const struct tproxy_mark *mark)
{
	struct sockaddr_in6 *sin6 = optval;

	if (!(mark->flags & TPROXY_MARK_RECORDED) || endpoint_is_mapped4(&mark->conn.dst) ||
	    (void *)(sin6 + 1) > end)
		return 0;
	__builtin_memset(sin6, 0, sizeof(*sin6));
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = bpf_htons(mark->conn.dst.port);
	__builtin_memcpy(&sin6->sin6_addr, mark->conn.dst.addr, sizeof(mark->conn.dst.addr));
	return sizeof(*sin6);
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

	if ((ctx->level != SOL_IP && ctx->level != SOL_IPV6) || !ctx->sk)
		return sockopt_pass(ctx);
	if (ctx->optname != SO_ORIGINAL_DST && ctx->optname != TPROXY_SO_CONN &&
	    ctx->optname != TPROXY_SO_WHOAMI)
		return sockopt_pass(ctx);
	mark = bpf_sk_storage_get(&map_marks, ctx->sk, NULL, 0);
	if (!mark)
		return sockopt_pass(ctx);

	if (ctx->level == SOL_IPV6) {
		if (ctx->optname == SO_ORIGINAL_DST)
			size = answer_original_dst6(ctx->optval, ctx->optval_end, mark);
	} else if (ctx->optname == SO_ORIGINAL_DST) {
		size = answer_original_dst4(ctx->optval, ctx->optval_end, mark);
	} else if (ctx->optname == TPROXY_SO_CONN) {
		size = answer_conn(ctx->optval, ctx->optval_end, mark);
	} else {
		size = answer_whoami(ctx->optval, ctx->optval_end, mark);
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
