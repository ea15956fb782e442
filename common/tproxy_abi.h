/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the kernel half and user space: map keys and values, flags, names. Nothing
 * else is shared. The tproxy_abi_*.h are parts of it, which only this file includes: pending
 * connections, the rules, reports about connections, the block list.
 *
 * Each structure is the key or value of a pinned map, a part of one, or an answer of getsockopt().
 * The comment of a map says who writes and reads it. `bpftool map dump` prints these structures, so
 * they are laid out to be read. Addresses are 16 bytes in network byte order; ports are numbers in
 * host byte order. An IPv4 address a.b.c.d is always stored as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2):
 * a client's AF_INET6 socket with a mapped address and the AF_INET socket that accepts it make the
 * same key. Times are CLOCK_MONOTONIC of the initial time namespace, in nanoseconds. Network
 * namespaces and sockets are identified by their cookies, which the kernel does not reuse.
 *
 * A change of any layout or meaning here or in a part raises TPROXY_ABI_VERSION. Loader and relay
 * refuse pins of another version and name both. abi_version therefore stays the first member of
 * tproxy_policy in every version.
 */
#ifndef TPROXY_ABI_H
#define TPROXY_ABI_H

#include <linux/types.h>

#include "tproxy_abi_base.h"
#include "tproxy_abi_block.h"
#include "tproxy_abi_events.h"
#include "tproxy_abi_pending.h"
#include "tproxy_abi_rules.h"

#define TPROXY_ABI_VERSION 13

/* Entries of map_socks: the limit of redirected connections that are alive at a time. */
#define TPROXY_CONNECTIONS_MAX 65536
/* Entries of map_config: the limit of network namespaces with a relay of their own. */
#define TPROXY_NAMESPACES_MAX 1024

/* Entries of map_failed, the negative cache. */
#define TPROXY_FAILED_MAX 4096
/* A relay whose alive_ns is older than this is stopped or hung: nothing is redirected to it. */
#define TPROXY_STALE_NS 5000000000ULL

/*
 * map_policy, an array of one entry. Written by the loader, and by `tproxyctl rules` for
 * TPROXY_RULES_LOOPBACK; read by the programs, the tools and the relay.
 */
enum tproxy_policy_flags {
	TPROXY_FAIL_CLOSED = 1 << 0, /* without a relay, refuse instead of connecting directly */
	TPROXY_INCLUDE_LOOPBACK = 1 << 1, /* 127.0.0.0/8, 0.0.0.0, ::1 and :: are redirected too */
	/* The rules name a loopback address. Set before such rules are loaded, cleared after. */
	TPROXY_RULES_LOOPBACK = 1 << 2,
	/*
	 * An instance of `tproxyctl run` in the scope of a load: notes the upstream that its rules
	 * name in map_marks of the load, see TPROXY_MARK_VIA.
	 */
	TPROXY_ADVISES = 1 << 3,
};

struct tproxy_policy {
	__u32 abi_version;
	__u32 flags;		  /* enum tproxy_policy_flags */
	__u64 relay_cgroup_id;	  /* processes in and below it are never redirected; 0 = none */
	__u32 relay_cgroup_level; /* its depth below the cgroup2 root, which is level 0 */
	__u32 opened_bpffs; /* 1: the loader made the root of bpffs searchable for others, to be
			       undone on unload */
	__u64 loaded_ns;    /* CLOCK_MONOTONIC; start of the counts in map_stats */
	__u64 seed;	    /* random secret of the hash that selects counters in map_shares */
};

/*
 * map_config: network namespace cookie (SO_NETNS_COOKIE, bpf_get_netns_cookie()) -> the relay that
 * serves this namespace. Written by relays and by `tproxyctl register`; read by connect. The relay
 * that registered last gets new connections. The entry only points to the relay. The mark on the
 * listening socket proves that the relay is alive and that the listener is its own: no other
 * process can set the mark, and it ends with the socket.
 *
 * A relay listens on several ports, and connect picks the one with the fewest connections. A host
 * can have only as many connections to one address and port as it has ephemeral ports, some 28,000
 * by default (ip_local_port_range).
 */
enum tproxy_family {
	TPROXY_INET,
	TPROXY_INET6,
	_TPROXY_FAMILY_MAX,
};

struct tproxy_listen {
	__u8 addr[16] __attribute__((aligned(4))); /* as in struct tproxy_endpoint */
	__u16 n_ports;				   /* 0 = the relay does not serve this family */
	__u16 reserved;
	__u16 ports[TPROXY_PORTS_MAX];
};

struct tproxy_relay {
	__u64 registered_ns; /* CLOCK_MONOTONIC */
	__u64 alive_ns;	     /* CLOCK_MONOTONIC of the last heartbeat; 0 = the relay has none */
	/* redirects that found no live listener of this relay; counted by the kernel half */
	__u64 unreachable;
	__u64 strayed_ns; /* kernel half only: when a SYN to it would last have left the host */
	__u32 pid;	  /* thread group id in the initial PID namespace; for display only */
	__u32 uid;	  /* user ID in the initial user namespace; for display only */
	struct tproxy_listen listen[_TPROXY_FAMILY_MAX];
};

/*
 * map_socks: cookie of the client's socket -> the redirected connection. connect makes the record
 * in the socket's own storage. sockops writes it here when the SYN is about to be sent, and reads
 * it to copy it to the accepted socket. Tools read it too. The entry is deleted when the client's
 * socket is closed. Options that a client sets after connect() are not recorded.
 */
enum tproxy_conn_flags {
	TPROXY_CONN_TAKEN = 1 << 0, /* the accepted socket has its copy */
	TPROXY_CONN_CLOSED =
		1 << 1, /* the client's socket is closed; if not TAKEN, the copy is still to come */
	/*
	 * In the answer of TPROXY_SO_CONN only: a capture runs. The relay then tells the
	 * kernel half which connection an upstream socket serves, see TPROXY_MARK_UPSTREAM.
	 */
	TPROXY_CONN_CAPTURED = 1 << 2,
	/* As enum tproxy_rule_flags. Neither flag: the relay's default. */
	TPROXY_CONN_HONEST = 1 << 3,
	TPROXY_CONN_EAGER = 1 << 4,
};

/* The kinds of owners whose connections map_shares counts. */
enum tproxy_share {
	TPROXY_SHARE_USER,
	TPROXY_SHARE_CGROUP,
	TPROXY_SHARE_SLICE, /* the cgroup at level 2, such as user-1000.slice */
	_TPROXY_SHARE_MAX,
};

struct tproxy_conn {
	__u64 started_ns; /* CLOCK_MONOTONIC, when connect() was called */
	__u64 netns_cookie;
	__u64 cookie;	 /* of the client's socket: the id of the connection, key of map_socks */
	__u64 cgroup_id; /* of the process that called connect() */
	__u32 pid;	 /* thread group id in the initial PID namespace */
	__u32 uid;	 /* real ids, in the initial user namespace */
	__u32 gid;
	__u32 pending; /* index in map_pending + 1; 0 = connect() did not wait for the relay */
	char comm[TPROXY_COMM_LEN];
	struct tproxy_endpoint src; /* the client's address and port, 0 until the SYN is sent */
	struct tproxy_endpoint dst; /* the original destination */
	__u32 mark;		    /* SO_MARK */
	__u32 user_timeout_ms;	    /* TCP_USER_TIMEOUT, 0 = none */
	__u16 keep_idle_s;	    /* TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT in effect */
	__u16 keep_intvl_s;	    /* (the host's default if the socket sets none); */
	__u8 keep_probes;	    /* all three are 0 without SO_KEEPALIVE */
	__u8 keep_alive;	    /* SO_KEEPALIVE is set */
	__u16 shares[_TPROXY_SHARE_MAX]; /* kernel half only: its counters in map_shares */
	__u32 flags;			 /* enum tproxy_conn_flags */
	struct tproxy_endpoint relay;	 /* the relay's address and port that replaced it */
	__u16 port_index;		 /* index of this port among the relay's */
	__u16 loads;			 /* kernel half only: index in map_loads */
	__u32 isn;			 /* see struct tproxy_tuple */
	__u32 rule_counter;		 /* of the rule that redirects, or TPROXY_NO_RULE */
	__u32 upstream;			 /* id of its upstream, see struct tproxy_rule */
	__u64 generation;		 /* with pending: of the slot */
};

/*
 * map_ports: what identifies a redirected connection on the wire -> cookie of the client's socket.
 * Written and read by the kernel half. The relay's address is part of the key because the kernel
 * lets two sockets share a source port if they connect to different destinations. The initial
 * sequence number is part of it because a source port may be reused while segments of the previous
 * connection are still in flight. The entry lives as long as the one in map_socks.
 */
struct tproxy_tuple {
	__u64 netns_cookie;
	struct tproxy_endpoint src; /* client */
	struct tproxy_endpoint dst; /* relay */
	__u32 isn;		    /* the client's, in host byte order */
	__u32 reserved;
};

/*
 * map_failed, the negative cache: a destination that a relay could not reach -> the error, for a
 * short time (--error-memory). connect() of the client whose connection failed had already
 * succeeded, so that client got a reset only. The next connect() to the same destination fails at
 * once with the true error. Written by relays, read by connect. An LRU map: an entry may be
 * evicted.
 */
struct tproxy_failed_key {
	__u64 netns_cookie;
	struct tproxy_endpoint dst;
	__u32 upstream; /* of the connection that failed: tproxy_conn.upstream */
};

struct tproxy_failed {
	__u64 expires_ns; /* CLOCK_MONOTONIC */
	__u32 error;	  /* an errno, such as ECONNREFUSED */
	__u32 reserved;
};

/*
 * map_marks, socket storage of a relay's sockets. The relay marks its listening sockets and its
 * upstream sockets; `tproxyctl register` marks the listeners of another proxy. A socket that a
 * marked listener accepts inherits the mark, and sockops adds the connection that it carries.
 * Clients' sockets have no mark but TPROXY_MARK_VIA.
 */
enum tproxy_mark_flags {
	TPROXY_MARK_LISTENER = 1 << 0, /* connections may be redirected to it */
	/*
	 * Never redirected. With HAS_CONN, conn is the connection that the socket serves; the relay
	 * sets it while a capture runs.
	 */
	TPROXY_MARK_UPSTREAM = 1 << 1,
	TPROXY_MARK_ATTACHED = 1 << 2, /* sockops sees it: set at listen() or by register */
	/* All of these together: connect redirects to this listener. */
	TPROXY_MARK_READY = TPROXY_MARK_LISTENER | TPROXY_MARK_ATTACHED,
	TPROXY_MARK_SWEEP = 1 << 5,    /* bind() runs one part of the sweep, and fails */
	TPROXY_MARK_HAS_CONN = 1 << 3, /* conn is valid; set by sockops on an accepted socket */
	/*
	 * In struct tproxy_whoami only: the caller is in the relay cgroup, so its sockets need no
	 * mark.
	 */
	TPROXY_MARK_EXEMPT = 1 << 4,
	/*
	 * A client's socket. If the load redirects it, the relay is to use the upstream in the
	 * mark, unless that is 0. Set by connect of an instance of `tproxyctl run` that has ADVISES
	 * in its policy, and read by connect of the load, which runs next.
	 */
	TPROXY_MARK_VIA = 1 << 6,
	/* A listener of a pair, see map_pairs; ring and pair are valid. Set before listen(). */
	TPROXY_MARK_HONEST = 1 << 7,
	/* With HONEST: connect() waits, unless the rule says `eager`. */
	TPROXY_MARK_HONEST_DEFAULT = 1 << 8,
	/*
	 * A socket that joins the pending client of conn, by simultaneous open. Set before
	 * connect(). sockops takes no other socket's SYN for the relay's.
	 */
	TPROXY_MARK_JOINS = 1 << 9,
};

struct tproxy_mark {
	__u32 flags;	/* enum tproxy_mark_flags */
	__u32 upstream; /* id, with VIA */
	__u32 ring;	/* index in map_rings, with HONEST */
	__u32 pair;	/* in map_pairs, with HONEST; both listeners of the pair have the same */
	__u64 listener; /* kernel half only: key in map_listeners, 0 = not seen at listen() */
	struct tproxy_conn conn;
};

/*
 * getsockopt() options for a relay's sockets. SO_ORIGINAL_DST (80) answers as netfilter does: at
 * SOL_IP, and at SOL_IPV6 for an IPv6 destination. The two options below are tproxy's, at SOL_IP;
 * their numbers are far from those of the kernel. Without a record SO_ORIGINAL_DST on a marked
 * socket fails with ENOENT.
 */
#define TPROXY_SO_WHOAMI 0x74700001 /* struct tproxy_whoami, on any socket of the relay */
#define TPROXY_SO_CONN	 0x74700002 /* struct tproxy_conn, on an accepted socket */

struct tproxy_whoami {
	__u32 abi_version;
	__u32 pid; /* as in struct tproxy_relay */
	__u32 uid;
	__u32 mark_flags; /* flags of this socket's mark, and TPROXY_MARK_EXEMPT */
};

/*
 * The probe that tells any process whether it is in scope. A TCP connect() to 255.255.255.255 and
 * this port fails with this errno in scope, and with another errno out of scope.
 */
#define TPROXY_PROBE_PORT  29808
#define TPROXY_PROBE_ERRNO ESRMNT

/*
 * map_listeners: cookie of a marked listening socket -> struct tproxy_listener, from listen() to
 * the socket's end. Written by sockops, from the mark. Read by sockops, which checks before each
 * SYN that the listener found by connect still exists, and by pick.
 *
 * map_newest: address and port of marked listeners -> the cookie of the one that began last. There
 * are several while a relay replaces another one at the same port. Kernel half only.
 *
 * map_shares, an array: number of connections in map_socks, by the hash of a user, a cgroup or a
 * slice. Each is limited to a part of map_socks. Kernel half only.
 *
 * map_strayed: user whose SYN to a relay would have left the host -> when (CLOCK_MONOTONIC, ns).
 * Kernel half only. An LRU map: an entry may be evicted.
 */
#define TPROXY_LISTENERS_MAX 8192
#define TPROXY_SHARES_MAX    4096
#define TPROXY_STRAYED_MAX   1024
/* For this long after the event connect does not redirect a user in map_strayed. */
#define TPROXY_STRAYED_NS 5000000000ULL

enum tproxy_listener_flags {
	TPROXY_LISTENER_CAPABLE = 1 << 0, /* of a pair: ring and pair are valid */
	TPROXY_LISTENER_DEFAULT = 1 << 1, /* TPROXY_MARK_HONEST_DEFAULT */
};

struct tproxy_listener {
	__u64 netns_cookie;
	__u32 ring, pair; /* as in struct tproxy_mark */
	__u32 flags;	  /* enum tproxy_listener_flags */
	__u32 reserved;
};

struct tproxy_newest_key {
	__u64 netns_cookie;
	struct tproxy_endpoint address;
	__u32 reserved;
};

struct tproxy_strayed_key {
	__u64 netns_cookie;
	__u32 uid;
	__u32 reserved;
};

/*
 * map_loads, an array: number of connections in map_socks at each port of a relay. A hash of
 * network namespace and first port selects the entry, one for each family. Two relays may share an
 * entry, which makes the choice of ports less even and has no other effect. Kernel half only.
 */
#define TPROXY_LOADS_MAX 512

struct tproxy_loads {
	__s32 n[TPROXY_PORTS_MAX];
};

/* map_sweep: network namespace cookie -> position of the sweep. Kernel half only. An LRU map. */
struct tproxy_sweep {
	__u64 begun_ns; /* CLOCK_MONOTONIC */
	__u32 entries;	/* entries of this namespace, as last counted */
	__u32 part;	/* part that is next */
};

/*
 * map_targets: 0, 1, … -> a cgroup or an interface that tproxy-load was asked for. Written and read
 * by the loader, read by tproxyctl. A cgroup that was removed and created again has another id:
 * compare the id that its path has now with cgroup_id.
 */
#define TPROXY_TARGETS_MAX 256

enum tproxy_target_kind {
	TPROXY_TARGET_SCOPE = 1, /* --cgroup */
	TPROXY_TARGET_RELAY = 2, /* --relay-cgroup */
	TPROXY_TARGET_XDP = 3,	 /* --xdp */
};

enum tproxy_xdp_mode {
	TPROXY_XDP_AUTO, /* native if the driver can, otherwise generic */
	TPROXY_XDP_NATIVE,
	TPROXY_XDP_GENERIC,
};

struct tproxy_target {
	__u64 cgroup_id; /* 0 = no cgroup existed at that path; XDP: cookie of the netns */
	__u32 flags;	 /* one of enum tproxy_target_kind */
	__u16 xdp_mode;	 /* XDP: enum tproxy_xdp_mode that was asked for */
	__u16 xdp_error; /* XDP: errno of the native mode, for which generic is used; or 0 */
	char path[4080]; /* of the cgroup, or name of the interface; ends with a NUL */
};

/*
 * map_stats, a per-CPU array of __u64: outcomes of TCP connect() calls in scope, and events of the
 * kernel half.
 */
enum tproxy_stat {
	TPROXY_STAT_REDIRECTED,
	TPROXY_STAT_BYPASS_RELAY,     /* by a relay: marked socket, or in the relay cgroup */
	TPROXY_STAT_BYPASS_LOOPBACK,  /* loopback destination, not included by the policy */
	TPROXY_STAT_BYPASS_MULTICAST, /* multicast or broadcast: the kernel fails it */
	TPROXY_STAT_BYPASS_LISTENER,  /* the destination is the relay itself */
	TPROXY_STAT_NO_RELAY,	      /* no relay for this network namespace and family */
	TPROXY_STAT_NO_LISTENER,  /* registered, but its port has no listener or an unmarked one */
	TPROXY_STAT_STALLED,	  /* registered and listening, but stopped or hung */
	TPROXY_STAT_MAP_FULL,	  /* the destination could not be recorded */
	TPROXY_STAT_BOUND_DEVICE, /* socket bound to a device: cannot reach the relay */
	TPROXY_STAT_LINK_LOCAL,	  /* fe80::/10: only the socket knows the scope */
	TPROXY_STAT_REFUSED,	  /* refused by the fail-closed policy; its reason is counted too */
	TPROXY_STAT_NEGATIVE_CACHE, /* failed at once with an errno from map_failed */
	TPROXY_STAT_PUBLISH_FAILED, /* redirected, but not inserted into the maps: SYN stopped */
	TPROXY_STAT_NO_STORAGE,	    /* no memory for the record (net.core.optmem_max) */
	TPROXY_STAT_OVER_SHARE,	    /* its user, cgroup or slice has used up its share */
	TPROXY_STAT_STRAYED,	    /* this user's SYN would leave the host */
	TPROXY_STAT_UNSUPPORTED,    /* see is_unsupported() in bpf/attempt.bpf.h */
	TPROXY_STAT_BYPASS_REPAIR,  /* TCP_REPAIR: sends no SYN */
	TPROXY_STAT_BYPASS_PORT0,   /* port 0, where nobody can listen */
	TPROXY_STAT_ABORTED, /* redirected, then stopped: listener gone, strayed, keys set, ... */
	TPROXY_STAT_STALE,   /* stale entries that the sweep deleted */
	TPROXY_STAT_UNANSWERED,	  /* redirected, but SYN unanswered for TPROXY_STALE_NS */
	TPROXY_STAT_RULE_DIRECT,  /* direct by a rule */
	TPROXY_STAT_RULE_OBSERVE, /* direct by a rule, and observed */
	TPROXY_STAT_RULE_REFUSED, /* refused by a rule */
	TPROXY_STAT_RULE_UDP,	  /* UDP datagrams, not connections: refused by a rule */
	TPROXY_STAT_OBSERVE_FULL, /* no slot, and map_observed was full: direct, and not reported */
	TPROXY_STAT_EVENTS_LOST,  /* map_events was full: the end is not reported */
	TPROXY_STAT_BLOCKED,	  /* refused by the block list */
	/* Redirected connections, beside REDIRECTED. */
	TPROXY_STAT_HONEST_PENDING, /* connect() waits for the relay */
	/* connect() should wait, but the relay accepts first. The reasons: */
	TPROXY_STAT_HONEST_MPTCP,   /* the socket is one of MPTCP */
	TPROXY_STAT_HONEST_NO_SLOT, /* map_pending had no free slot for it */
	TPROXY_STAT_HONEST_DATA,    /* its SYN carries data (Fast Open) */
	TPROXY_STAT_HONEST_TTL,	    /* its SYN cannot be swallowed: a TTL of 255, or no sink yet */
	TPROXY_STAT_HONEST_RING_FULL, /* SYNs whose event found no room; the next one tries again */
	TPROXY_STAT_HONEST_STRANGER,  /* SYNs to a pair that nobody has redirected: refused */
	_TPROXY_STAT_MAX,
};

_Static_assert(sizeof(struct tproxy_policy) == 40, "ABI");
_Static_assert(sizeof(struct tproxy_listen) == 148, "ABI");
_Static_assert(sizeof(struct tproxy_relay) == 336, "ABI");
_Static_assert(sizeof(struct tproxy_conn) == 176, "ABI");
_Static_assert(sizeof(struct tproxy_tuple) == 56, "ABI");
_Static_assert(sizeof(struct tproxy_failed_key) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_failed) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_target) == 4096, "ABI");
_Static_assert(sizeof(struct tproxy_mark) == 200, "ABI");
_Static_assert(sizeof(struct tproxy_listener) == 24, "ABI");
_Static_assert(sizeof(struct tproxy_newest_key) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_strayed_key) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_whoami) == 16, "ABI");

#endif
