// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The entry points of the kernel half; the headers have the steps. The hooks of one redirected
 * connection, in order, with the owner of the socket:
 *
 *   sockops LISTEN               relay   add the marked listener to map_listeners
 *   connect4, connect6           client  record the destination, then replace it by the relay's
 *   sockops TCP_CONNECT          client  insert into the maps, or stop a SYN that strays
 *   pick                         relay   accept, swallow or refuse the SYN (pending.bpf.h)
 *   sockops RTO                  client  stop the next SYN if the listener is gone or silent
 *   sockops ACTIVE_ESTABLISHED   client  stop the final ACK if the listener is gone
 *   sockops PASSIVE_ESTABLISHED  relay   copy the connection into the accepted socket's mark;
 *                                client  the same as ACTIVE, if the relay has joined it
 *   getsockopt                   relay   answer SO_ORIGINAL_DST from that mark
 *   getpeername4, getpeername6   client  return the original destination
 *   sock_release                 client  delete the map entries, unless the relay needs them
 *   sockops STATE -> CLOSE       both    delete the map entries; remove a listener
 *   bind4                        relay   run one part of the sweep: delete stale entries
 *
 * A connection that a rule observes goes direct; observe.bpf.h describes what these hooks do for
 * it, and flow.bpf.h what sockops does while a capture runs. UDP is not redirected.
 * While a rule is about UDP, sendmsg4, sendmsg6 and egress refuse datagrams (udp.bpf.h).
 *
 * The invariant: an address is replaced only after its destination has been recorded, and only if
 * the listener at the new address is alive and carries tproxy's mark. decide.bpf.h makes the
 * decision. A connection that should be redirected and cannot be gets the policy's verdict there:
 * direct, or refused.
 *
 * The hooks run for every socket in scope, so each starts with the cheapest test that rules one
 * out.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "blockops.bpf.h"
#include "connect.bpf.h"
#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "flow.bpf.h"
#include "getsockopt.bpf.h"
#include "interest.bpf.h"
#include "list.bpf.h"
#include "maps.bpf.h"
#include "observe.bpf.h"
#include "pick.bpf.h"
#include "record.bpf.h"
#include "sockops.bpf.h"
#include "sweep.bpf.h"
#include "timer.bpf.h"
#include "tproxy_abi.h"
#include "traffic.bpf.h"
#include "udp.bpf.h"
#include "watch.bpf.h"
#include "watchops.bpf.h"

SEC("cgroup/connect4")
int tproxy_connect4(struct bpf_sock_addr *ctx)
{
	const struct tproxy_endpoint *relay;
	struct bpf_sock *sk = ctx->sk;
	struct tproxy_endpoint dst;
	int r;

	endpoint_set4(&dst, ctx->user_ip4, bpf_ntohs((__be16)ctx->user_port));
	if (!is_tcp(ctx) || !sk) {
		udp_connect(ctx, sk, &dst);
		return CONNECT_PROCEED;
	}
	relay = connect_run(ctx, sk, &dst, &r);
	if (relay) {
		ctx->user_ip4 = endpoint_get4(relay);
		ctx->user_port = bpf_htons(relay->port);
	}
	return r;
}

/* Also handles IPv4-mapped destinations, which Java, Go and other dual-stack programs use. */
SEC("cgroup/connect6")
int tproxy_connect6(struct bpf_sock_addr *ctx)
{
	const struct tproxy_endpoint *relay;
	struct bpf_sock *sk = ctx->sk;
	struct tproxy_endpoint dst;
	__be32 ip[4];
	int r;

	load_words(ip, ctx->user_ip6);
	endpoint_set6(&dst, ip, bpf_ntohs((__be16)ctx->user_port));
	if (!is_tcp(ctx) || !sk) {
		udp_connect(ctx, sk, &dst);
		return CONNECT_PROCEED;
	}
	relay = connect_run(ctx, sk, &dst, &r);
	if (relay) {
		store_words(ctx->user_ip6, relay);
		ctx->user_port = bpf_htons(relay->port);
	}
	return r;
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
		if (has_interest()) {
			observe_sent(ctx, sk);
			watch_sent(ctx);
		}
		if (capture_is_noted() && flow_begin(ctx))
			request_callbacks(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
		break;
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		timer_reply(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		/* A socket that was accepted has not sent anything itself. */
		if (!ctx->segs_out || !client_established(ctx, sk, /* joined= */ true)) {
			accepted_record(ctx, sk);
			watch_accepted(ctx);
		} else if (has_interest()) {
			watch_established(ctx);
		}
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		client_established(ctx, sk, /* joined= */ false);
		if (has_interest()) {
			observe_established(ctx);
			watch_established(ctx);
		}
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		listener_begins(ctx, sk);
		break;
	case BPF_SOCK_OPS_RTO_CB:
		client_retransmits(ctx, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] != BPF_TCP_CLOSE)
			break;
		if (ctx->args[0] == BPF_TCP_LISTEN) {
			listener_ends(ctx);
			break;
		}
		watch_end(ctx);
		client_close(ctx, sk);
		observe_end(ctx, sk);
		if (capture_is_noted())
			flow_end(ctx);
		break;
	}
	return 1;
}

SEC("cgroup/sock_release")
int tproxy_release(struct bpf_sock *sk)
{
	struct client *client;

	if (sk->protocol != IPPROTO_TCP)
		return 1;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client && client->recorded)
		client_released(client, sk->state == BPF_TCP_SYN_SENT);
	if (has_interest()) {
		observe_released(sk);
		watch_released(sk);
	}
	return 1;
}

/* Returns the original destination of this socket, or NULL if it was not redirected. */
static __always_inline const struct tproxy_endpoint *original_dst_of(struct bpf_sock *sk)
{
	const struct client *client;

	if (!sk)
		return NULL;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	return client && client->recorded ? &client->conn.dst : NULL;
}

SEC("cgroup/getpeername4")
int tproxy_getpeer4(struct bpf_sock_addr *ctx)
{
	const struct tproxy_endpoint *dst = original_dst_of(ctx->sk);

	if (dst) {
		ctx->user_ip4 = endpoint_get4(dst);
		ctx->user_port = bpf_htons(dst->port);
	}
	return 1;
}

SEC("cgroup/getpeername6")
int tproxy_getpeer6(struct bpf_sock_addr *ctx)
{
	const struct tproxy_endpoint *dst = original_dst_of(ctx->sk);

	if (dst) {
		store_words(ctx->user_ip6, dst);
		ctx->user_port = bpf_htons(dst->port);
	}
	return 1;
}

SEC("cgroup/getsockopt")
int tproxy_sockopt(struct bpf_sockopt *ctx)
{
	const struct tproxy_mark *mark;
	__s32 size = 0;

	if ((ctx->level != SOL_IP && ctx->level != SOL_IPV6) || !ctx->sk)
		return getsockopt_pass(ctx);
	if (ctx->optname != SO_ORIGINAL_DST && ctx->optname != TPROXY_SO_CONN &&
	    ctx->optname != TPROXY_SO_WHOAMI)
		return getsockopt_pass(ctx);
	mark = bpf_sk_storage_get(&map_marks, ctx->sk, NULL, 0);
	if (!mark || mark->flags == TPROXY_MARK_VIA)
		return getsockopt_pass(ctx);

	if (ctx->level == SOL_IPV6) {
		if (ctx->optname == SO_ORIGINAL_DST)
			size = getsockopt_original_dst6(ctx->optval, ctx->optval_end, mark);
	} else if (ctx->optname == SO_ORIGINAL_DST) {
		size = getsockopt_original_dst4(ctx->optval, ctx->optval_end, mark);
	} else if (ctx->optname == TPROXY_SO_CONN) {
		size = getsockopt_conn(ctx->optval, ctx->optval_end, mark);
	} else {
		size = getsockopt_whoami(ctx->optval, ctx->optval_end, mark);
	}
	if (ctx->optname == SO_ORIGINAL_DST && !(mark->flags & TPROXY_MARK_HAS_CONN))
		return getsockopt_deny(ctx);
	if (!size)
		return getsockopt_pass(ctx);
	ctx->optlen = size;
	/* Keep clang from merging the two stores into a 64-bit one, which the verifier rejects. */
	barrier();
	ctx->retval = 0;
	return 1;
}

SEC("cgroup/sendmsg4")
int tproxy_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct tproxy_endpoint dst;

	endpoint_set4(&dst, ctx->user_ip4, bpf_ntohs((__be16)ctx->user_port));
	return udp_sendmsg(ctx, &dst);
}

/* For an IPv4-mapped destination sendmsg4 runs. */
SEC("cgroup/sendmsg6")
int tproxy_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct tproxy_endpoint dst;
	__be32 ip[4];

	load_words(ip, ctx->user_ip6);
	endpoint_set6(&dst, ip, bpf_ntohs((__be16)ctx->user_port));
	return udp_sendmsg(ctx, &dst);
}

SEC("cgroup_skb/egress")
int tproxy_egress(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return UDP_PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_UDP)
		return UDP_PASS;
	return udp_egress(ctx, sk);
}

SEC("cgroup_skb/ingress")
int tproxy_block_in(struct __sk_buff *ctx)
{
	return block_skb(ctx, /* in= */ true);
}

SEC("cgroup_skb/egress")
int tproxy_block_out(struct __sk_buff *ctx)
{
	return block_skb(ctx, /* in= */ false);
}

SEC("xdp.frags")
int tproxy_xdp(struct xdp_md *ctx)
{
	return block_xdp(ctx);
}

/*
 * The sweep as a relay asks for it: bind() on a socket with the SWEEP mark. bind() always fails:
 * with EAGAIN while parts of the pass are left, otherwise with EPERM.
 */
SEC("cgroup/bind4")
int tproxy_sweep(struct bpf_sock_addr *ctx)
{
	const struct tproxy_mark *mark;

	if (!ctx->sk)
		return 1;
	mark = bpf_sk_storage_get(&map_marks, ctx->sk, NULL, 0);
	if (!mark || !(mark->flags & TPROXY_MARK_SWEEP))
		return 1;
	if (sweep(ctx, bpf_get_netns_cookie(ctx), /* at_once= */ false))
		bpf_set_retval(-EAGAIN);
	return 0;
}

/*
 * The sweep as root's tools ask for it, with BPF_PROG_TEST_RUN, in the caller's network namespace.
 * cb[0] and cb[1] are the low and the high word of that namespace's cookie: not every supported
 * kernel has bpf_get_netns_cookie() for this program type. Returns 1 while parts of the pass are
 * left.
 */
SEC("tc")
int tproxy_sweep_now(struct __sk_buff *ctx)
{
	return sweep(ctx, (__u64)ctx->cb[1] << 32 | ctx->cb[0], /* at_once= */ true);
}

/* Attached by relays to their own listeners. */
SEC("sk_reuseport")
int tproxy_pick(struct sk_reuseport_md *ctx)
{
	return pick_run(ctx);
}

/* The pinned list of connections, see list.bpf.h. Runs once for each socket and once at the end. */
SEC("iter/tcp")
int tproxy_list(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct seq_file *seq = ctx->meta->seq;

	/* The first socket, or the end of a list without sockets. */
	if (seq->index == 1)
		list_header(seq);
	if (skc)
		list_socket(seq, skc);
	else
		list_total(seq);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
