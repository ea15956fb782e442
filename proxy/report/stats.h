/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counters, and the reasons why sessions end. Each worker has its own struct stats. Only the worker
 * writes it; other threads may read it at any time.
 */
#ifndef TPROXY_STATS_H
#define TPROXY_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "histogram.h"

enum close_reason {
	CLOSE_DONE, /* both sides sent their FIN */
	CLOSE_RESET_BY_CLIENT,
	CLOSE_RESET_BY_SERVER,
	CLOSE_NO_DESTINATION, /* no original destination: connected to the relay itself */
	CLOSE_CONNECT_FAILED,
	CLOSE_CONNECT_TIMEOUT,
	CLOSE_IDLE_TIMEOUT,
	CLOSE_HALF_CLOSED_TIMEOUT,
	CLOSE_DRAIN_TIMEOUT,
	CLOSE_NO_MEMORY,
	CLOSE_CGROUP_LIMIT,
	CLOSE_UNKNOWN_UPSTREAM, /* the rule names an upstream that is not configured */
	CLOSE_REFUSED_BY_NAME,	/* by a line of [names] */
	CLOSE_CANCELLED,	/* the client gave up its connect() before it was answered */
	_CLOSE_REASON_MAX,
};

/*
 * What became of each connect() that was pending (session/joining.h). All but HONEST_BEGUN are
 * ends.
 */
enum honest_count {
	HONEST_BEGUN,
	HONEST_JOINED,	  /* the destination was reached, and connect() has succeeded */
	HONEST_REFUSED,	  /* connect() fails with ECONNREFUSED */
	HONEST_TIMED_OUT, /* connect() fails with ETIMEDOUT */
	HONEST_CANCELLED, /* by the client */
	/* Accepted as without honest connect, because: */
	HONEST_ACCEPTED_NAME, /* the route depends on the name of the destination */
	HONEST_ACCEPTED_JOIN, /* this host refused the socket to the client, or connect() of it */
	_HONEST_MAX,
};

struct stats {
	_Atomic uint64_t accepted;   /* with those whose connect() was pending and has an end */
	_Atomic uint64_t bytes_up;   /* client to server */
	_Atomic uint64_t bytes_down; /* server to client */
	_Atomic uint64_t closed[_CLOSE_REASON_MAX];
	_Atomic uint64_t
		accept_paused;	   /* pauses for lack of descriptors or memory, or at the limit */
	_Atomic uint64_t spliced;  /* the part of bytes_up and bytes_down that was spliced */
	_Atomic uint64_t sessions; /* number of sessions now */
	_Atomic uint64_t honest[_HONEST_MAX];
	struct histogram times[_HISTOGRAM_MAX];
};

/* Adds n to a counter. There is one writer, so no atomic read-modify-write is needed. */
static inline void stats_add(_Atomic uint64_t *counter, uint64_t n)
{
	histogram_count(counter, n);
}

/* Reads a counter, in any thread. */
static inline uint64_t stats_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Returns a static string, for logs. */
const char *close_reason_name(enum close_reason reason);
/* Returns a static string, for logs and metrics. */
const char *honest_count_name(enum honest_count count);

/* Adds the counters of *from to *to, which no other thread uses. */
void stats_sum(struct stats *to, const struct stats *from);

/* Logs the totals, and each other counter that is not zero, at level info. */
void stats_log(const struct stats *stats, uint64_t sessions);

#endif
