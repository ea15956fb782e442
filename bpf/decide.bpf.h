/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision about one TCP connect() in scope: facts and policy in, verdict and reason out. Pure:
 * no map, no helper call, no context. connect.bpf.h, tests/unit, tests/fuzz and `tproxyctl explain`
 * build the same code, so explain gives the kernel's answer.
 *
 * The facts come in stages, cheapest first, and each stage has its questions: decide_stage(). A
 * stage finds the reason of the verdict, or nothing. connect.bpf.h gathers and asks stage
 * by stage, so a connect() pays only for the facts that its verdict depends on. decide() asks all
 * stages in order, for callers that have the facts. The two cannot differ: decide() is the loop
 * over decide_stage().
 *
 * A connection that should be redirected and cannot be gets its verdict from apply_fail_policy(),
 * the one place that chooses between fail-open and fail-closed.
 *
 * Rules are a stage before the first question that ends in apply_fail_policy(), because a rule may
 * exempt what cannot be redirected. rules.bpf.h finds the row that applies. The action of that row
 * is a fact here.
 */
#ifndef TPROXY_DECIDE_BPF_H
#define TPROXY_DECIDE_BPF_H

#include <stdbool.h>
#include <linux/errno.h>
#include <linux/types.h>

#include "endpoint.bpf.h"
#include "share.bpf.h"
#include "tproxy_abi.h"

enum verdict {
	VERDICT_MORE,	  /* the next stage of facts decides */
	VERDICT_DIRECT,	  /* connect as without tproxy */
	VERDICT_OBSERVE,  /* the same, and report the connection */
	VERDICT_REDIRECT, /* connect to the relay */
	VERDICT_REFUSE,	  /* fail connect() with decision.error */
};

struct decision {
	enum verdict verdict;
	enum tproxy_stat reason; /* the counter of this outcome; REASON_NONE for VERDICT_MORE */
	int error;		 /* an errno, for VERDICT_REFUSE */
	bool fail_closed;	 /* the policy refuses; TPROXY_STAT_REFUSED is counted as well */
	__u32 upstream;		 /* for VERDICT_REDIRECT: id, or 0, see struct tproxy_rule */
};

enum stage {
	STAGE_DESTINATION, /* the address: needs neither the socket nor the process */
	STAGE_BLOCK,
	STAGE_CALLER,
	STAGE_SOCKET,
	STAGE_RULES,
	STAGE_RELAY,
	STAGE_LISTENER,
	STAGE_HISTORY,
	STAGE_SHARES,
	STAGE_ROOM,
	_STAGE_MAX,
};

/* Times are CLOCK_MONOTONIC in nanoseconds. */
struct facts {
	/* STAGE_DESTINATION */
	enum endpoint_class dst_class;
	__u16 dst_port;
	/* STAGE_BLOCK: errno of the block list, 0 = not blocked */
	__u32 block_error;
	/* STAGE_CALLER: the socket has the UPSTREAM mark, or the process is in the relay cgroup */
	bool exempt;
	/* STAGE_SOCKET */
	bool repair;	   /* TCP_REPAIR */
	bool unsupported;  /* see is_unsupported() in attempt.bpf.h */
	bool bound_device; /* SO_BINDTODEVICE */
	/*
	 * STAGE_RULES: action of the row that applies, or of the default. Without rules REDIRECT.
	 */
	enum tproxy_rule_action rule_action;
	bool rule_default; /* no row applies */
	bool named_only;   /* see is_named_only() */
	__u32 rule_error;
	__u32 rule_upstream; /* attempt.bpf.h has it */
	/* STAGE_RELAY: one is registered for the network namespace and the destination's family */
	bool has_relay;
	__u64 now_ns;
	__u64 alive_ns;		/* its heartbeat, 0 = it has none */
	__u64 relay_strayed_ns; /* when a SYN to it last strayed, 0 = never */
	/* STAGE_LISTENER */
	bool has_listener; /* at the chosen port or the next one: a marked listener */
	bool dst_is_relay; /* the destination is a marked listener of this relay */
	/* STAGE_HISTORY */
	__u64 user_strayed_ns; /* needed only if relay_strayed_ns is recent */
	__u64 failed_until_ns; /* expiry of the destination's entry in map_failed, 0 = none */
	__u32 failed_error;
	/* STAGE_SHARES */
	bool has_storage;		      /* the socket's storage could be allocated */
	__s64 connections[_TPROXY_SHARE_MAX]; /* of the user, cgroup and slice */
	/* STAGE_ROOM */
	bool has_room; /* in map_socks */
};

/* Returned by a stage whose questions decide nothing. */
#define REASON_NONE _TPROXY_STAT_MAX

/* True if the relay has a heartbeat and it is too old: the relay is stopped or hangs. */
static __always_inline bool is_stalled(const struct facts *facts)
{
	return facts->alive_ns && facts->now_ns > facts->alive_ns + TPROXY_STALE_NS;
}

/* True if the time of a stray is set and recent. */
static __always_inline bool is_recent_stray(__u64 strayed_ns, __u64 now_ns)
{
	return strayed_ns && now_ns < strayed_ns + TPROXY_STRAYED_NS;
}

/*
 * True if, within the last TPROXY_STRAYED_NS, a SYN of this user to this relay would have left the
 * host.
 */
static __always_inline bool has_strayed(const struct facts *facts)
{
	return is_recent_stray(facts->relay_strayed_ns, facts->now_ns) &&
	       is_recent_stray(facts->user_strayed_ns, facts->now_ns);
}

/*
 * Returns the errno of the negative cache, or 0. Only errnos that describe a destination count,
 * because a relay can write any value to the map. EACCES: an upstream has forbidden it.
 */
static __always_inline int cached_error(const struct facts *facts)
{
	if (facts->failed_until_ns <= facts->now_ns)
		return 0;
	switch (facts->failed_error) {
	case EACCES:
	case ECONNREFUSED:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ETIMEDOUT:
		return (int)facts->failed_error;
	}
	return 0;
}

static __always_inline enum tproxy_stat decide_destination(const struct facts *facts,
							   const struct tproxy_policy *policy)
{
	if (facts->dst_class == ENDPOINT_LOOPBACK &&
	    !(policy->flags & (TPROXY_INCLUDE_LOOPBACK | TPROXY_RULES_LOOPBACK)))
		return TPROXY_STAT_BYPASS_LOOPBACK;
	/* The kernel fails such a connect() at once. Redirected, it would seem to succeed. */
	if (facts->dst_class == ENDPOINT_MULTICAST)
		return TPROXY_STAT_BYPASS_MULTICAST;
	return REASON_NONE;
}

/*
 * Before the question whether the caller is a relay: a relay must not reach a blocked address
 * either, for a client that asked before it was blocked. Loopback is never blocked.
 */
static __always_inline enum tproxy_stat decide_block(const struct facts *facts)
{
	if (facts->block_error && facts->dst_class != ENDPOINT_LOOPBACK)
		return TPROXY_STAT_BLOCKED;
	return REASON_NONE;
}

static __always_inline enum tproxy_stat decide_caller(const struct facts *facts)
{
	if (facts->exempt)
		return TPROXY_STAT_BYPASS_RELAY;
	if (facts->dst_port == 0)
		return TPROXY_STAT_BYPASS_PORT0;
	return REASON_NONE;
}

static __always_inline enum tproxy_stat decide_socket(const struct facts *facts)
{
	if (facts->repair)
		return TPROXY_STAT_BYPASS_REPAIR;
	return REASON_NONE;
}

/*
 * True if only rules that name the destination apply, and the default does not: the destination is
 * a loopback address and --include-loopback is off. It is a fact, because the search of the rules
 * depends on it and the loader may change the policy meanwhile.
 */
static __always_inline bool is_named_only(const struct facts *facts,
					  const struct tproxy_policy *policy)
{
	return facts->dst_class == ENDPOINT_LOOPBACK && !(policy->flags & TPROXY_INCLUDE_LOOPBACK);
}

static __always_inline enum tproxy_stat decide_rules(const struct facts *facts)
{
	if (facts->rule_default && facts->named_only)
		return TPROXY_STAT_BYPASS_LOOPBACK;
	switch (facts->rule_action) {
	case TPROXY_RULE_DIRECT:
		return TPROXY_STAT_RULE_DIRECT;
	case TPROXY_RULE_OBSERVE:
		return TPROXY_STAT_RULE_OBSERVE;
	case TPROXY_RULE_REFUSE:
		return TPROXY_STAT_RULE_REFUSED;
	default:
		return REASON_NONE;
	}
}

static __always_inline enum tproxy_stat decide_relay(const struct facts *facts)
{
	if (facts->dst_class == ENDPOINT_LINK_LOCAL)
		return TPROXY_STAT_LINK_LOCAL;
	if (facts->unsupported)
		return TPROXY_STAT_UNSUPPORTED;
	if (!facts->has_relay)
		return TPROXY_STAT_NO_RELAY;
	return REASON_NONE;
}

static __always_inline enum tproxy_stat decide_listener(const struct facts *facts)
{
	if (!facts->has_listener)
		return TPROXY_STAT_NO_LISTENER;
	if (is_stalled(facts))
		return TPROXY_STAT_STALLED;
	/* A connection to the relay itself passes: the relay finds no destination and resets it. */
	if (facts->dst_is_relay)
		return TPROXY_STAT_BYPASS_LISTENER;
	/* Such a socket would send the SYN, with a loopback address, out of that device. */
	if (facts->bound_device)
		return TPROXY_STAT_BOUND_DEVICE;
	return REASON_NONE;
}

static __always_inline enum tproxy_stat decide_history(const struct facts *facts)
{
	if (has_strayed(facts))
		return TPROXY_STAT_STRAYED;
	if (cached_error(facts))
		return TPROXY_STAT_NEGATIVE_CACHE;
	return REASON_NONE;
}

static __always_inline enum tproxy_stat decide_shares(const struct facts *facts)
{
	if (!facts->has_storage)
		return TPROXY_STAT_NO_STORAGE;
	if (!share_is_free(facts->connections))
		return TPROXY_STAT_OVER_SHARE;
	return REASON_NONE;
}

static __always_inline enum tproxy_stat decide_room(const struct facts *facts)
{
	if (!facts->has_room)
		return TPROXY_STAT_MAP_FULL;
	return TPROXY_STAT_REDIRECTED;
}

/*
 * Asks the questions of one stage; those of the earlier stages decided nothing. Returns the reason
 * of the decision, or REASON_NONE.
 */
static __always_inline enum tproxy_stat
decide_stage(const struct facts *facts, const struct tproxy_policy *policy, enum stage stage)
{
	switch (stage) {
	case STAGE_DESTINATION:
		return decide_destination(facts, policy);
	case STAGE_BLOCK:
		return decide_block(facts);
	case STAGE_CALLER:
		return decide_caller(facts);
	case STAGE_SOCKET:
		return decide_socket(facts);
	case STAGE_RULES:
		return decide_rules(facts);
	case STAGE_RELAY:
		return decide_relay(facts);
	case STAGE_LISTENER:
		return decide_listener(facts);
	case STAGE_HISTORY:
		return decide_history(facts);
	case STAGE_SHARES:
		return decide_shares(facts);
	default:
		return decide_room(facts);
	}
}

/* The connection should be redirected and cannot be, for this reason. */
static __always_inline struct decision apply_fail_policy(const struct tproxy_policy *policy,
							 enum tproxy_stat reason)
{
	if (!(policy->flags & TPROXY_FAIL_CLOSED))
		return (struct decision){ .verdict = VERDICT_DIRECT, .reason = reason };
	return (struct decision){
		.verdict = VERDICT_REFUSE,
		.reason = reason,
		.error = ECONNREFUSED,
		.fail_closed = true,
	};
}

/* Returns the decision that this reason leads to. */
static __always_inline struct decision decide_by(enum tproxy_stat reason, const struct facts *facts,
						 const struct tproxy_policy *policy)
{
	switch (reason) {
	case TPROXY_STAT_REDIRECTED:
		return (struct decision){
			.verdict = VERDICT_REDIRECT,
			.reason = reason,
			.upstream = facts->rule_upstream,
		};
	case TPROXY_STAT_BYPASS_LOOPBACK:
	case TPROXY_STAT_BYPASS_MULTICAST:
	case TPROXY_STAT_BYPASS_RELAY:
	case TPROXY_STAT_BYPASS_PORT0:
	case TPROXY_STAT_BYPASS_REPAIR:
	case TPROXY_STAT_BYPASS_LISTENER:
	case TPROXY_STAT_RULE_DIRECT:
		return (struct decision){ .verdict = VERDICT_DIRECT, .reason = reason };
	case TPROXY_STAT_RULE_OBSERVE:
		return (struct decision){ .verdict = VERDICT_OBSERVE, .reason = reason };
	case TPROXY_STAT_RULE_REFUSED:
		return (struct decision){
			.verdict = VERDICT_REFUSE,
			.reason = reason,
			.error = (int)facts->rule_error,
		};
	case TPROXY_STAT_BLOCKED:
		return (struct decision){
			.verdict = VERDICT_REFUSE,
			.reason = reason,
			.error = (int)facts->block_error,
		};
	case TPROXY_STAT_NEGATIVE_CACHE:
		return (struct decision){
			.verdict = VERDICT_REFUSE,
			.reason = reason,
			.error = (int)facts->failed_error,
		};
	case REASON_NONE:
		return (struct decision){ .verdict = VERDICT_MORE, .reason = reason };
	default:
		return apply_fail_policy(policy, reason);
	}
}

/*
 * Decides, with the facts up to stage @known. Returns VERDICT_MORE if the verdict depends on facts
 * of a later stage. Never does so for STAGE_ROOM.
 */
static __always_inline struct decision decide(const struct facts *facts,
					      const struct tproxy_policy *policy, enum stage known)
{
	enum tproxy_stat reason = REASON_NONE;
	enum stage stage;

	for (stage = 0; stage <= known && reason == REASON_NONE; stage++)
		reason = decide_stage(facts, policy, stage);
	return decide_by(reason, facts, policy);
}

#endif
