/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rules about UDP. Their only action is to refuse a datagram; nothing here redirects.
 *
 * A connect() of a UDP socket is never refused: getaddrinfo() connects a socket to each address
 * that it found, to sort them, and sends nothing. A datagram is refused when it is sent, at one of
 * two hooks:
 *
 *   sendmsg4, sendmsg6   the call names the destination. The hook runs in the sending process, as
 *                        connect does for TCP, and fails the call with the errno of the rule.
 *   egress               the socket is connected, so no other hook runs. The destination is the
 *                        socket's peer, not the packet's, which netfilter may have rewritten. The
 *                        kernel fails the call with EPERM; no hook of packets can choose an errno.
 *
 * A thread may connect the socket elsewhere between another thread's send() and egress. So if a
 * rule refuses a peer that the socket ever had, the packet's destination decides too.
 *
 * egress may run in another task (netfilter's queue), so it does not look at the current task.
 * connect notes the process in map_udp. The cgroup is that of the socket. A socket that was
 * connected before the rules were loaded has a user and a cgroup, but neither group nor command.
 * The rules in force decide each datagram, so a reload needs no further step.
 *
 * The hooks are attached while a rule is about UDP (TPROXY_NEEDS_UDP). They let TCP pass: a TCP
 * packet dropped here would only be sent again.
 */
#ifndef TPROXY_UDP_BPF_H
#define TPROXY_UDP_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "policy.bpf.h"
#include "rulefacts.bpf.h"
#include "stats.bpf.h"
#include "tproxy_abi.h"

/* Return values of the three programs. */
enum {
	UDP_REFUSE = 0,
	UDP_PASS = 1,
};

/* Offsets in the headers of a packet. */
enum {
	UDP_IPV4_DADDR = 16,
	UDP_IPV6_NEXT_HEADER = 6,
	UDP_IPV6_DADDR = 24,
	UDP_IPV6_HEADER = 40, /* its length */
	UDP_DPORT = 2,	      /* in the UDP header */
};

/* A gid that no process has: setgid(2) refuses it. */
#define UDP_GID_UNKNOWN 0xffffffff

/* Returns the rule set in force, or NULL if no row is about UDP. */
static __always_inline const struct tproxy_rules *udp_rules(void)
{
	const struct tproxy_rules *rules = get_rules();

	return rules && rules->needs & TPROXY_NEEDS_UDP ? rules : NULL;
}

/* As is_named_only() in decide.bpf.h. */
static __always_inline bool udp_is_named_only(const struct tproxy_endpoint *dst,
					      const struct tproxy_policy *policy)
{
	return endpoint_class(dst) == ENDPOINT_LOOPBACK &&
	       !(policy->flags & TPROXY_INCLUDE_LOOPBACK);
}

/* Returns the row that refuses datagrams of the calling process to dst, or RULES_NO_ROW. */
static __always_inline int udp_find(const struct tproxy_rules *rules,
				    const struct tproxy_policy *policy,
				    const struct tproxy_endpoint *dst)
{
	__u64 cgroups = 0;

	if (rules->needs & TPROXY_NEEDS_CGROUP)
		cgroups = rules_process_bits(rules);
	return rules_find(rules, dst, IPPROTO_UDP, udp_is_named_only(dst, policy), cgroups);
}

/*
 * Runs for a connect() to dst of a socket that is not a TCP socket. Notes the process of a UDP
 * socket for egress, and whether a rule refuses dst.
 */
static __always_inline void udp_connect(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					const struct tproxy_endpoint *dst)
{
	const struct tproxy_rules *rules = udp_rules();
	const struct tproxy_policy *policy = get_policy();
	struct udp_connection *connection;

	if (ctx->protocol != IPPROTO_UDP || !sk || !rules || !policy)
		return;
	connection = bpf_sk_storage_get(&map_udp, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connection)
		return;
	rule_process_read(&connection->process);
	if (udp_find(rules, policy, dst) != RULES_NO_ROW)
		connection->refused = 1;
}

/* Counts a datagram that a row refuses. Returns the row's errno, or 0 for RULES_NO_ROW. */
static __always_inline int udp_apply(const struct tproxy_rules *rules, __u32 row)
{
	barrier_var(row); /* clang knows the bound, the verifier does not */
	if (row >= TPROXY_RULES_MAX)
		return 0;
	rule_count(rules->rows[row].counter);
	count(TPROXY_STAT_RULE_UDP);
	return rules->rows[row].error;
}

/* Runs for a call that names the destination. Returns the program's return value. */
static __always_inline int udp_sendmsg(struct bpf_sock_addr *ctx, const struct tproxy_endpoint *dst)
{
	const struct tproxy_rules *rules = udp_rules();
	const struct tproxy_policy *policy;
	int error;

	/*
	 * Port 0: the socket is connected, and the kernel runs this hook only because the call has
	 * control messages. egress decides. A negative value: a program that ran before has refused
	 * the datagram.
	 */
	if (!rules || ctx->protocol != IPPROTO_UDP || !dst->port || bpf_get_retval() < 0)
		return UDP_PASS;
	policy = get_policy();
	if (!policy || in_relay_cgroup(policy))
		return UDP_PASS;
	error = udp_apply(rules, udp_find(rules, policy, dst));
	if (!error)
		return UDP_PASS;
	bpf_set_retval(-error);
	return UDP_REFUSE;
}

/* One datagram that leaves. */
struct udp_egress {
	const struct udp_sock *up; /* the socket, for CO-RE */
	const struct tproxy_rules *rules;
	const struct tproxy_policy *policy;
	const struct udp_connection *noted; /* by udp_connect(), or NULL */
};

/* True if a socket of the relay cgroup sends it. */
static __always_inline bool udp_in_relay_cgroup(struct __sk_buff *skb,
						const struct tproxy_policy *policy)
{
	return policy->relay_cgroup_id &&
	       bpf_skb_ancestor_cgroup_id(skb, (int)policy->relay_cgroup_level) ==
		       policy->relay_cgroup_id;
}

static __always_inline void udp_read_peer(struct bpf_sock *sk, struct tproxy_endpoint *dst)
{
	__be32 ip[4];

	if (sk->family == AF_INET) {
		endpoint_set4(dst, sk->dst_ip4, bpf_ntohs(sk->dst_port));
		return;
	}
	load_words(ip, sk->dst_ip6);
	endpoint_set6(dst, ip, bpf_ntohs(sk->dst_port));
}

/*
 * Reads the destination of the packet. Returns false for an IPv6 packet with extension headers,
 * which only a process with CAP_NET_RAW can send.
 */
static __always_inline bool udp_read_packet(struct __sk_buff *skb, struct tproxy_endpoint *dst)
{
	__u32 header_len = UDP_IPV6_HEADER;
	__be16 port;
	__be32 ip[4];
	__u8 byte;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, &byte, sizeof(byte)) ||
		    bpf_skb_load_bytes(skb, UDP_IPV4_DADDR, ip, sizeof(ip[0])))
			return false;
		header_len = (byte & 0xf) * 4;
	} else if (bpf_skb_load_bytes(skb, UDP_IPV6_NEXT_HEADER, &byte, sizeof(byte)) ||
		   byte != IPPROTO_UDP || bpf_skb_load_bytes(skb, UDP_IPV6_DADDR, ip, sizeof(ip))) {
		return false;
	}
	if (bpf_skb_load_bytes(skb, header_len + UDP_DPORT, &port, sizeof(port)))
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		endpoint_set4(dst, ip[0], bpf_ntohs(port));
	else
		endpoint_set6(dst, ip, bpf_ntohs(port));
	return true;
}

/*
 * Reads the destination of data held back by MSG_MORE or UDP_CORK: the peer at the time of the
 * write. The data may be sent after the socket was connected elsewhere. Returns false if there are
 * none.
 */
static __always_inline bool udp_read_corked(const struct udp_sock *up, struct tproxy_endpoint *dst)
{
	const int pending = BPF_CORE_READ(up, pending);
	__be32 ip[4];

	if (pending == AF_INET) {
		endpoint_set4(dst, BPF_CORE_READ(up, inet.cork.fl.u.ip4.daddr),
			      bpf_ntohs(BPF_CORE_READ(up, inet.cork.fl.u.ip4.uli.ports.dport)));
		return true;
	}
	if (pending != AF_INET6)
		return false;
	BPF_CORE_READ_INTO(&ip, up, inet.cork.fl.u.ip6.daddr);
	endpoint_set6(dst, ip, bpf_ntohs(BPF_CORE_READ(up, inet.cork.fl.u.ip6.uli.ports.dport)));
	return true;
}

/* True if a row refuses datagrams of this socket to dst. */
static __always_inline bool udp_refuses(const struct udp_egress *e,
					const struct tproxy_endpoint *dst)
{
	struct rule_process process = {};
	const struct udp_sock *up = e->up; /* BPF_CORE_READ() would relocate e->up too */
	__u64 cgroups = 0;

	if (e->noted) {
		process = e->noted->process;
	} else {
		process.uid = BPF_CORE_READ(up, inet.sk.sk_uid.val);
		process.gid = UDP_GID_UNKNOWN;
	}
	if (e->rules->needs & TPROXY_NEEDS_CGROUP)
		cgroups = rules_cgroup_bits(e->rules,
					    (__u64)BPF_CORE_READ(up, inet.sk.sk_cgrp_data.cgroup));
	return udp_apply(e->rules, rules_find_udp(e->rules, dst, &process,
						  udp_is_named_only(dst, e->policy), cgroups));
}

/*
 * Runs for each datagram that a socket in scope sends. A socket without a peer sends only datagrams
 * that sendmsg has passed, or data held back while it had a peer.
 */
static __always_inline int udp_egress(struct __sk_buff *skb, struct bpf_sock *sk)
{
	const bool connected = sk->state == BPF_TCP_ESTABLISHED;
	struct udp_egress e = { .rules = udp_rules() };
	struct tproxy_endpoint peer, corked, packet;

	if (!e.rules)
		return UDP_PASS;
	e.noted = bpf_sk_storage_get(&map_udp, sk, NULL, 0);
	e.policy = get_policy();
	if ((!connected && !e.noted) || !e.policy || udp_in_relay_cgroup(skb, e.policy))
		return UDP_PASS;
	e.up = (const struct udp_sock *)BPF_CORE_READ((const struct sk_buff *)skb, sk);
	udp_read_peer(sk, &peer);
	if (connected && udp_refuses(&e, &peer))
		return UDP_REFUSE;
	if (udp_read_corked(e.up, &corked) && !(connected && endpoint_equal(&corked, &peer)) &&
	    udp_refuses(&e, &corked))
		return UDP_REFUSE;
	if (e.noted && e.noted->refused && udp_read_packet(skb, &packet) &&
	    !(connected && endpoint_equal(&packet, &peer)) && udp_refuses(&e, &packet))
		return UDP_REFUSE;
	return UDP_PASS;
}

#endif
