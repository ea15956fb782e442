/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A part of tproxy_abi.h: reports about connections: observing, watching, capturing. */
#ifndef TPROXY_ABI_EVENTS_H
#define TPROXY_ABI_EVENTS_H

#include <linux/types.h>

#include "tproxy_abi_base.h"

/*
 * map_observed_slots and map_observed: a direct connection that a rule observes. It has one entry:
 * in the slot of its socket's cookie modulo TPROXY_OBSERVED_SLOTS, or, if another connection has
 * that slot, in map_observed, by the cookie. Written by connect and sockops, deleted at the
 * connection's end, which is reported in map_events. Kernel half only; `tproxyctl run` reads those
 * of its own instance.
 */
#define TPROXY_OBSERVED_MAX   65536
#define TPROXY_OBSERVED_SLOTS 16384
/* In tproxy_observed_slot.cookie: connect is filling in the slot. No cookie has this bit. */
#define TPROXY_OBSERVED_BUSY (1ULL << 63)

enum tproxy_observed_flags {
	TPROXY_OBSERVED_SENT = 1 << 0,	 /* the SYN is sent: src is valid */
	TPROXY_OBSERVED_DEVICE = 1 << 1, /* bound to a device when the SYN was sent */
	/*
	 * Another connect program has replaced dst: a foreign program, or that of an instance
	 * above.
	 */
	TPROXY_OBSERVED_MOVED = 1 << 2,
	TPROXY_OBSERVED_MISSING = 1 << 3, /* the last sweep did not find the socket */
};

struct tproxy_observed {
	__u64 started_ns; /* CLOCK_MONOTONIC, when connect() was called */
	__u64 netns_cookie;
	__u64 cgroup_id;   /* of the process that called connect() */
	__u64 released_ns; /* kernel half only: when the program closed the socket, 0 = not yet */
	__u32 pid;	   /* thread group id in the initial PID namespace */
	__u32 uid;
	char comm[TPROXY_COMM_LEN]; /* of the thread group leader */
	struct tproxy_endpoint src; /* the client's address and port, 0 until the SYN is sent */
	struct tproxy_endpoint dst; /* that connect() asked for */
	__u32 rule_counter;	    /* of the rule that observes: index in map_rule_texts */
	__u32 flags;		    /* enum tproxy_observed_flags */
};

/* Two cache lines of most CPUs. The map is mmapable, so its values begin at a page. */
struct tproxy_observed_slot {
	__u64 cookie; /* 0 = free */
	__u64 reserved[2];
	struct tproxy_observed conn;
};

/*
 * map_events, a ring buffer of struct tproxy_event: one for each observed connection that has
 * ended, and one for a connect() that the block list refused, up to TPROXY_BLOCKED_EVENTS_MAX in a
 * second. Written by the kernel half, read by one process at a time: a relay that logs connections
 * and holds flock(2) on the pin of map_observed. Without a reader the ring keeps the oldest events,
 * and the others are counted (TPROXY_STAT_EVENTS_LOST).
 */
#define TPROXY_EVENTS_SIZE	  (1 << 20)
#define TPROXY_BLOCKED_EVENTS_MAX 100

/* Other values of tproxy_event.state than those of the kernel. */
enum tproxy_event_state {
	TPROXY_EVENT_NOT_SENT = 0,  /* connect() failed, or the socket was closed, before its SYN */
	TPROXY_EVENT_BLOCKED = 254, /* the block list refused connect(), with tproxy_event.error */
	TPROXY_EVENT_UNSEEN = 255, /* the socket is gone and its end was not reported: no numbers */
};

enum tproxy_event_flags {
	TPROXY_EVENT_FIN = 1 << 0,    /* the server's FIN has come */
	TPROXY_EVENT_CLOSED = 1 << 1, /* the program had closed the socket before */
	TPROXY_EVENT_ACKED = 1 << 2,  /* the server has acknowledged this side's FIN */
};

struct tproxy_event {
	struct tproxy_observed conn;
	__u64 cookie;	/* of the client's socket */
	__u64 ended_ns; /* CLOCK_MONOTONIC */
	__u64 bytes_up; /* sent, each byte counted once */
	__u64 bytes_down;
	__u32 rtt_us;	   /* smoothed round trip time, 0 = none was measured */
	__u32 rtt_min_us;  /* the shortest of the last minutes, 0xffffffff = none */
	__u32 retransmits; /* segments that were sent again, SYNs included */
	__u16 error;	   /* errno of the socket, such as ECONNRESET, or 0 */
	__u8 state;	   /* before the end: TCP_ESTABLISHED, ... or enum tproxy_event_state */
	__u8 flags;	   /* enum tproxy_event_flags */
};

/* What became of a connect(), in the words of the tools: TPROXY_VERDICT_WORDS. */
enum tproxy_verdict {
	TPROXY_VERDICT_REDIRECTED,
	TPROXY_VERDICT_DIRECT,
	TPROXY_VERDICT_OBSERVED, /* direct, and its end is logged */
	TPROXY_VERDICT_REFUSED,
	_TPROXY_VERDICT_MAX,
};

#define TPROXY_VERDICT_WORDS                                                                       \
	{                                                                                          \
		"redirected", "direct", "observed", "refused", NULL                                \
	}

/*
 * map_interest, an array of one entry that `tproxyctl watch` maps into its memory: whether the
 * hooks have more to do for a connection than to redirect it. While both watching and observed_s
 * are 0, they have not. watching is written by watchers and the kernel half, by atomic operations;
 * observed_s (CLOCK_MONOTONIC) by the kernel half alone. They are different words, so no writer of
 * one undoes a change of the other.
 *
 * map_watch_rings, an array of maps, has the ring buffer of each watcher, which it makes itself. A
 * watcher owns a slot while it holds the lock of byte SLOT of the pin of map_interest
 * (F_OFD_SETLK), which ends with the process. Every TPROXY_WATCH_ALIVE_NS / 10 at least it sets
 * alive_ns, then its bit in watching. The kernel half clears the bit of a watcher whose alive_ns is
 * older than TPROXY_WATCH_ALIVE_NS. It writes an event to the rings of all watchers, and counts in
 * lost each event that did not fit.
 */
#define TPROXY_WATCHERS_MAX   4
#define TPROXY_WATCH_ALIVE_NS 5000000000ULL

struct tproxy_watcher {
	__u64 alive_ns; /* CLOCK_MONOTONIC; written by the watcher */
	__u64 lost;	/* events; written by the kernel half */
};

struct tproxy_interest {
	__u32 watching;	  /* bit SLOT: this watcher is there */
	__u32 observed_s; /* when the last connection was observed, plus 1; 0 = there is none */
	__u32 inbound;	  /* bit SLOT: this watcher asks for accepted connections too */
	__u32 reserved;
	struct tproxy_watcher watchers[TPROXY_WATCHERS_MAX];
};

/* The kinds of events in the rings of watchers. All begin with struct tproxy_watch_head. */
enum tproxy_watch_kind {
	TPROXY_WATCH_CONNECT = 1, /* connect() was decided: struct tproxy_watch_start */
	TPROXY_WATCH_SENT,	  /* the SYN is about to be sent: struct tproxy_watch_sent */
	TPROXY_WATCH_ACCEPTED,	  /* struct tproxy_watch_start */
	TPROXY_WATCH_ENDED,	  /* struct tproxy_watch_end */
	TPROXY_WATCH_RELEASED,	  /* a socket without a connection is closed: the head alone */
};

enum tproxy_watch_flags {
	TPROXY_WATCH_COUNTED = 1 << 0, /* ENDED: one sequence number of this side was the SYN's */
};

/* A value of reason beside those of enum tproxy_stat: another program has refused it before. */
#define TPROXY_WATCH_BY_OTHER 255

struct tproxy_watch_head {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 cookie;  /* of this host's socket */
	__u8 kind;     /* enum tproxy_watch_kind */
	__u8 verdict;  /* CONNECT: enum tproxy_verdict */
	__u8 reason;   /* CONNECT: enum tproxy_stat */
	__u8 flags;    /* enum tproxy_watch_flags */
	__u32 error;   /* CONNECT that was refused: the errno */
};

/*
 * conn has the process, the destination and the counter of the rule. Of an accepted connection src
 * is this side and dst the peer, uid that of the process that made the listening socket, cgroup_id
 * that of the socket; pid and comm are not known.
 */
struct tproxy_watch_start {
	struct tproxy_watch_head head;
	struct tproxy_observed conn;
};

struct tproxy_watch_sent {
	struct tproxy_watch_head head;
	struct tproxy_endpoint src;
	struct tproxy_endpoint dst; /* the relay's, if the connection is redirected */
};

/* Of event.conn only src and dst are set. */
struct tproxy_watch_end {
	struct tproxy_watch_head head;
	struct tproxy_event event;
};

/*
 * map_capture, an array of __u64, by enum tproxy_capture: whether a capture runs. Each
 * `tproxyctl capture` writes ALIVE_NS every second. flock(2) on the pin, shared, lets one that ends
 * find out whether it was the last one. Read by sockops, getsockopt and the sweep.
 */
enum tproxy_capture {
	/*
	 * CLOCK_MONOTONIC of the last sign of life of a capture; 0: nobody captures. Older than
	 * TPROXY_STALE_NS: the captures were killed or stopped.
	 */
	TPROXY_CAPTURE_ALIVE_NS,
	/*
	 * Connections that are not in map_flows, because it was full or the captures were stopped.
	 * Counted by sockops.
	 */
	TPROXY_CAPTURE_MISSED,
	_TPROXY_CAPTURE_MAX,
};

/*
 * map_flows: addresses of a TCP connection of a scope or of a relay -> the connection whose packets
 * have these addresses. sockops inserts entries before the SYN is sent, while a capture runs;
 * `tproxyctl capture` inserts those of older connections. Packets may follow after the end, so
 * sockops only notes the time. `tproxyctl capture` deletes entries; the sweep deletes those that a
 * killed one has left.
 */
#define TPROXY_FLOWS_MAX 65536

struct tproxy_flow_key {
	__u64 netns_cookie;
	struct tproxy_endpoint local; /* of the socket that has called connect() */
	struct tproxy_endpoint remote;
};

enum tproxy_leg {
	TPROXY_LEG_CLIENT,   /* from the client to the relay */
	TPROXY_LEG_UPSTREAM, /* from the relay to the server */
	TPROXY_LEG_DIRECT,   /* from the client to the server, not redirected */
	TPROXY_LEG_OBSERVED, /* the same, by a rule that observes */
	_TPROXY_LEG_MAX,
};

struct tproxy_flow {
	__u64 cookie;	  /* of the client's socket: the id of the connection, in both legs */
	__u64 started_ns; /* CLOCK_MONOTONIC */
	__u64 ended_ns;	  /* CLOCK_MONOTONIC of the socket's end, 0 = alive */
	__u64 cgroup_id;  /* of the client */
	__u32 pid;	  /* of the client: thread group id in the initial PID namespace */
	__u32 uid;
	char comm[TPROXY_COMM_LEN];
	struct tproxy_endpoint src; /* the client's address and port */
	struct tproxy_endpoint dst; /* the destination that the client asked for */
	__u32 leg;		    /* enum tproxy_leg */
	__u32 reserved;
};

_Static_assert(sizeof(struct tproxy_observed) == 104, "ABI");
_Static_assert(sizeof(struct tproxy_observed_slot) == 128, "ABI");
_Static_assert(sizeof(struct tproxy_event) == 152, "ABI");
_Static_assert(sizeof(struct tproxy_interest) == 80, "ABI");
_Static_assert(sizeof(struct tproxy_watch_start) == 128, "ABI");
_Static_assert(sizeof(struct tproxy_watch_sent) == 64, "ABI");
_Static_assert(sizeof(struct tproxy_watch_end) == 176, "ABI");
_Static_assert(sizeof(struct tproxy_flow_key) == 48, "ABI");
_Static_assert(sizeof(struct tproxy_flow) == 104, "ABI");

#endif
