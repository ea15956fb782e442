/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel half and user space share, and nothing else: map keys and values, flags, names.
 *
 * Everything here is also what `bpftool map dump` prints, so it is laid out to be read: addresses
 * are bytes in network order, ports are numbers in host order, and an IPv4 address a.b.c.d is
 * always written in its IPv4-mapped form ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). One form for both
 * families means that a key made from an AF_INET6 socket with a mapped address and one made from
 * the AF_INET socket that accepted it are the same key.
 *
 * A change of any layout or meaning below raises TPROXY_ABI_VERSION. Loader and relay refuse to
 * work with pins of another version, so abi_version stays the first member of tproxy_policy in
 * every version to come.
 */
#ifndef TPROXY_ABI_H
#define TPROXY_ABI_H

#include <linux/types.h>

#define TPROXY_ABI_VERSION 3

/* Entries of map_socks: how many redirected connections may be alive at a time. */
#define TPROXY_CONNECTIONS_MAX 65536
/* Entries of map_config: how many network namespaces may have a relay of their own. */
#define TPROXY_NAMESPACES_MAX 1024

/* Ports of one relay, for each family: one for each of its listening sockets. */
#define TPROXY_PORTS_MAX 64
/* Entries of map_failed: destinations that could not be reached, of late. */
#define TPROXY_FAILED_MAX 4096
/* A relay whose alive_ns is older than this is stopped or stuck: nothing is redirected to it. */
#define TPROXY_STALE_NS 5000000000ULL

#define TPROXY_COMM_LEN 16

/*
 * map_policy, an array of one entry. Written by the loader, read by all others.
 */
enum tproxy_policy_flags {
	TPROXY_FAIL_CLOSED = 1 << 0, /* refuse, instead of connecting directly, without a relay */
	TPROXY_INCLUDE_LOOPBACK = 1 << 1, /* 127.0.0.0/8, 0.0.0.0, ::1 and :: are redirected too */
};

struct tproxy_policy {
	__u32 abi_version;
	__u32 flags;		  /* enum tproxy_policy_flags */
	__u64 relay_cgroup_id;	  /* processes in and below it are never redirected; 0 = none */
	__u32 relay_cgroup_level; /* its depth below the cgroup2 root, which is level 0 */
	__u32 opened_bpffs; /* the loader let others search the BPF file system's root: undo that */
	__u64 loaded_ns;    /* CLOCK_MONOTONIC: since when map_stats counts */
	__u64 seed;	    /* random: nobody can tell who shares a counter in map_shares */
};

/* An address of either family, see above, and a port in host byte order. */
struct tproxy_endpoint {
	__u8 addr[16];
	__u16 port;
	__u16 reserved;
};

/*
 * map_config: network namespace cookie (SO_NETNS_COOKIE, bpf_get_netns_cookie()) -> the relay that
 * serves it. Written by relays, read by connect: the last one to register gets new connections.
 * The entry is only a pointer. Proof that the relay lives and that the listener is its own is the
 * mark on the listening socket, which no other process can put there and which ends with it.
 *
 * A relay listens on several ports, and connect takes the one that has the fewest connections:
 * towards one address and port a host has no more of them than it has ephemeral ports, some 28,000
 * (ip_local_port_range).
 */
enum tproxy_family {
	TPROXY_INET,
	TPROXY_INET6,
	_TPROXY_FAMILY_MAX,
};

struct tproxy_listen {
	__u8 addr[16]; /* as in struct tproxy_endpoint */
	__u16 n_ports; /* 0 = does not serve that family */
	__u16 reserved;
	__u16 ports[TPROXY_PORTS_MAX];
};

struct tproxy_relay {
	__u64 registered_ns; /* CLOCK_MONOTONIC */
	__u64 alive_ns;	     /* likewise, renewed while the relay runs; 0 = it does not tell */
	__u64 missed; /* connections that found nobody, or a stranger, there: connect counts them */
	__u64 strayed_ns; /* the kernel half's: when a SYN for it would last have left the host */
	__u32 pid; /* thread group id in the initial PID namespace; to be shown, not trusted */
	__u32 uid; /* likewise in the initial user namespace */
	struct tproxy_listen listen[_TPROXY_FAMILY_MAX];
};

/*
 * map_socks: socket cookie of the client's socket -> the connection that was redirected. Made by
 * connect in the socket's own storage, written here by sockops when the SYN is about to go, deleted
 * when the client's socket is closed. Read by sockops, to give it to the accepted socket, and by
 * people. What a client sets on its socket after connect() is not known here.
 */
enum tproxy_conn_flags {
	TPROXY_CONN_TAKEN = 1 << 0,  /* the accepted socket has its copy */
	TPROXY_CONN_CLOSED = 1 << 1, /* the client's socket is closed, the copy is not made yet */
};

/* Whose connections are counted, in map_shares. */
enum tproxy_share {
	TPROXY_SHARE_USER,
	TPROXY_SHARE_CGROUP,
	TPROXY_SHARE_SLICE, /* the cgroup at level 2, such as user-1000.slice */
	_TPROXY_SHARE_MAX,
};

struct tproxy_conn {
	__u64 started_ns; /* CLOCK_MONOTONIC, when connect() was called */
	__u64 netns_cookie;
	__u64 cgroup_id; /* of the process that called connect() */
	__u32 pid;	 /* thread group id in the initial PID namespace */
	__u32 uid;
	char comm[TPROXY_COMM_LEN];
	struct tproxy_endpoint src; /* the client's address and port, 0 until the SYN is sent */
	struct tproxy_endpoint dst; /* where the client wanted to go */
	__u32 mark;		    /* SO_MARK */
	__u32 user_timeout_ms;	    /* TCP_USER_TIMEOUT, 0 = none */
	__u16 keep_idle_s;	    /* TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT as they are in */
	__u16 keep_intvl_s;	    /* effect, the host's if it has none of its own; */
	__u8 keep_probes;	    /* 0 without SO_KEEPALIVE */
	__u8 keep_alive;	    /* SO_KEEPALIVE is set */
	__u16 shares[_TPROXY_SHARE_MAX]; /* the kernel half's: which counters have it */
	__u32 flags;			 /* the kernel half's: enum tproxy_conn_flags */
	struct tproxy_endpoint relay;	 /* where it went instead */
	__u16 port_index;		 /* among that relay's ports */
	__u16 loads;			 /* the kernel half's: index in map_loads */
	__u32 isn;			 /* see struct tproxy_tuple */
};

/*
 * map_ports: what identifies a redirected connection on the wire -> socket cookie of the client's
 * socket. The address of the relay is part of the key because the kernel lets two sockets share a
 * source port as long as they go to different destinations; the initial sequence number, because a
 * source port is used again while segments of the connection before are still under way. Exists
 * while the client's socket does.
 */
struct tproxy_tuple {
	__u64 netns_cookie;
	struct tproxy_endpoint src; /* client */
	struct tproxy_endpoint dst; /* relay */
	__u32 isn;		    /* the client's, in host byte order */
	__u32 reserved;
};

/*
 * map_failed: a destination that a relay could not reach -> the error, for a short time. The client
 * whose connection that was has been told by a reset only, for its connect() was over. The next
 * connect() to the same destination fails at once with the true error. Written by relays; an LRU
 * map, since it may forget.
 */
struct tproxy_failed_key {
	__u64 netns_cookie;
	struct tproxy_endpoint dst;
	__u32 reserved;
};

struct tproxy_failed {
	__u64 expires_ns; /* CLOCK_MONOTONIC */
	__u32 error;	  /* an errno, such as ECONNREFUSED */
	__u32 reserved;
};

/*
 * map_marks, socket storage: the sockets of a relay. The relay marks its listening sockets and
 * those with which it dials. Sockets that a marked listener accepts inherit the mark, and sockops
 * adds the connection that they carry.
 */
enum tproxy_mark_flags {
	TPROXY_MARK_LISTENER = 1 << 0, /* connections may be redirected to it */
	TPROXY_MARK_UPSTREAM = 1 << 1, /* is never redirected */
	TPROXY_MARK_HOOKED =
		1 << 2,		    /* set by sockops at listen(): our programs see this listener */
	TPROXY_MARK_SWEEP = 1 << 5, /* bind() asks for a pass of the sweep, and fails */
	TPROXY_MARK_RECORDED = 1 << 3, /* set by sockops on an accepted socket: conn is valid */
	/* In struct tproxy_whoami only: the caller is in the relay cgroup, its sockets need none.
	 */
	TPROXY_MARK_EXEMPT = 1 << 4,
};

struct tproxy_mark {
	__u32 flags; /* enum tproxy_mark_flags */
	__u32 reserved;
	__u64 listener; /* the kernel half's: key in map_listeners, 0 = not seen at listen() */
	struct tproxy_conn conn;
};

/*
 * getsockopt() of a relay, level SOL_IP. SO_ORIGINAL_DST (80) answers as netfilter would, at SOL_IP
 * and, for an IPv6 destination, at SOL_IPV6; these two are ours. Their numbers are far from those
 * of the kernel.
 */
#define TPROXY_SO_WHOAMI 0x74700001 /* struct tproxy_whoami, on any socket of the relay */
#define TPROXY_SO_CONN	 0x74700002 /* struct tproxy_conn, on an accepted socket */

struct tproxy_whoami {
	__u32 abi_version;
	__u32 pid; /* as in struct tproxy_relay */
	__u32 uid;
	__u32 mark_flags; /* of the socket that was asked, and TPROXY_MARK_EXEMPT */
};

/*
 * map_listeners: socket cookie of a marked listener -> 1, from listen() to its end. What connect
 * has found may be gone when the SYN goes, or goes again; this is asked then.
 *
 * map_shares, an array: connections in map_socks by hash of a user, a cgroup, a slice. None of them
 * may have all.
 *
 * map_strayed: who was about to send a SYN for a relay out of the host -> when (CLOCK_MONOTONIC).
 * An LRU map, since it may forget.
 */
#define TPROXY_LISTENERS_MAX 8192
#define TPROXY_SHARES_MAX    4096
#define TPROXY_STRAYED_MAX   1024
/* For how long connect does not redirect who is in map_strayed. */
#define TPROXY_STRAYED_NS 5000000000ULL

struct tproxy_strayed_key {
	__u64 netns_cookie;
	__u32 uid;
	__u32 reserved;
};

/*
 * map_loads, an array: connections in map_socks by index of the relay's port. A relay has an entry
 * for each family, found by a hash of its namespace and first port. Two may share one, and are
 * served all the same.
 */
#define TPROXY_LOADS_MAX 512

struct tproxy_loads {
	__s32 n[TPROXY_PORTS_MAX];
};

/*
 * map_sweep: netns cookie -> how far the search for entries without a socket has come. An LRU map.
 */
struct tproxy_sweep {
	__u64 begun_ns; /* CLOCK_MONOTONIC */
	__u32 entries;	/* those of this namespace, when they were counted last */
	__u32 part;	/* of them that is next */
};

/*
 * map_targets: 0, 1, … -> a cgroup that tproxy-load was asked for. Written and read by the loader,
 * read by tproxyctl. A cgroup that is removed and made again is another one: the path tells.
 */
#define TPROXY_TARGETS_MAX 256

enum tproxy_target_kind {
	TPROXY_TARGET_SCOPE = 1, /* --cgroup */
	TPROXY_TARGET_RELAY = 2, /* --relay-cgroup */
};

struct tproxy_target {
	__u64 cgroup_id; /* 0: there was none at that path */
	__u32 flags;	 /* one of enum tproxy_target_kind */
	__u32 reserved;
	char path[4080]; /* ends with a NUL */
};

/*
 * map_stats, a per-CPU array of __u64: what became of TCP connect() calls in scope.
 */
enum tproxy_stat {
	TPROXY_STAT_REDIRECTED,
	TPROXY_STAT_BYPASS_RELAY,     /* by a relay: a marked socket, or in the relay's cgroup */
	TPROXY_STAT_BYPASS_LOOPBACK,  /* loopback destination, not included by policy */
	TPROXY_STAT_BYPASS_MULTICAST, /* no TCP there: left to the kernel's own errno */
	TPROXY_STAT_BYPASS_LISTENER,  /* the destination is the relay itself */
	TPROXY_STAT_NO_RELAY,	      /* none registered in this network namespace */
	TPROXY_STAT_NO_LISTENER,      /* registered, but nobody listens there, or somebody else */
	TPROXY_STAT_STALLED,	      /* registered and listening, but stopped or stuck */
	TPROXY_STAT_MAP_FULL,	      /* the destination could not be recorded */
	TPROXY_STAT_BOUND_DEVICE,     /* SO_BINDTODEVICE: cannot reach the relay */
	TPROXY_STAT_LINK_LOCAL,	      /* fe80::/10, whose scope only the socket knows */
	TPROXY_STAT_REFUSED, /* of those above from NO_RELAY on, those refused by --fail-closed */
	TPROXY_STAT_KNOWN_FAILED,  /* failed at once with an error from map_failed */
	TPROXY_STAT_UNPUBLISHED,   /* redirected, but its source could not be published: failed */
	TPROXY_STAT_NO_STORAGE,	   /* no memory for the record (net.core.optmem_max) */
	TPROXY_STAT_OVER_SHARE,	   /* its user, cgroup or slice has too much of map_socks */
	TPROXY_STAT_STRAYED,	   /* the relay's address is not on this host, for this client */
	TPROXY_STAT_UNSUPPORTED,   /* TCP_MD5SIG, TCP-AO, a source or route that lo has not */
	TPROXY_STAT_BYPASS_REPAIR, /* TCP_REPAIR: sends no SYN */
	TPROXY_STAT_BYPASS_PORT0,  /* port 0, where nobody can listen */
	TPROXY_STAT_ABORTED, /* redirected, but its SYN was stopped: the relay was gone or strayed
			      */
	TPROXY_STAT_STALE,   /* entries without a socket, found and removed */
	TPROXY_STAT_UNANSWERED, /* redirected, but its SYN was not answered for TPROXY_STALE_NS */
	_TPROXY_STAT_MAX,
};

_Static_assert(sizeof(struct tproxy_policy) == 40, "ABI");
_Static_assert(sizeof(struct tproxy_endpoint) == 20, "ABI");
_Static_assert(sizeof(struct tproxy_listen) == 148, "ABI");
_Static_assert(sizeof(struct tproxy_relay) == 336, "ABI");
_Static_assert(sizeof(struct tproxy_conn) == 144, "ABI");
_Static_assert(sizeof(struct tproxy_tuple) == 56, "ABI");
_Static_assert(sizeof(struct tproxy_failed_key) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_failed) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_target) == 4096, "ABI");
_Static_assert(sizeof(struct tproxy_mark) == 160, "ABI");
_Static_assert(sizeof(struct tproxy_strayed_key) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_whoami) == 16, "ABI");

#endif
