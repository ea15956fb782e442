/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the kernel half and user space: map keys and values, flags, names. Nothing
 * else is shared.
 *
 * Each structure is the key or value of a pinned map, a part of one, or an answer of getsockopt().
 * The comment of a map says who writes and reads it. `bpftool map dump` prints these structures, so
 * they are laid out to be read. Addresses are 16 bytes in network byte order; ports are numbers in
 * host byte order. An IPv4 address a.b.c.d is always stored as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2):
 * a client's AF_INET6 socket with a mapped address and the AF_INET socket that accepts it make the
 * same key. Times are CLOCK_MONOTONIC of the initial time namespace, in nanoseconds. Network
 * namespaces and sockets are identified by their cookies, which the kernel does not reuse.
 *
 * A change of any layout or meaning below raises TPROXY_ABI_VERSION. Loader and relay refuse pins
 * of another version and name both. abi_version therefore stays the first member of tproxy_policy
 * in every version.
 */
#ifndef TPROXY_ABI_H
#define TPROXY_ABI_H

#include <linux/types.h>

#define TPROXY_ABI_VERSION 12

/* Entries of map_socks: the limit of redirected connections that are alive at a time. */
#define TPROXY_CONNECTIONS_MAX 65536
/* Entries of map_config: the limit of network namespaces with a relay of their own. */
#define TPROXY_NAMESPACES_MAX 1024

/* Ports of one relay in each family: one for each of its listening sockets. */
#define TPROXY_PORTS_MAX 64
/* Entries of map_failed, the negative cache. */
#define TPROXY_FAILED_MAX 4096
/* A relay whose alive_ns is older than this is stopped or hung: nothing is redirected to it. */
#define TPROXY_STALE_NS 5000000000ULL

#define TPROXY_COMM_LEN 16

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

/* An address of either family in the form above, and a port in host byte order. */
struct tproxy_endpoint {
	__u8 addr[16];
	__u16 port;
	__u16 reserved;
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
	__u8 addr[16]; /* as in struct tproxy_endpoint */
	__u16 n_ports; /* 0 = the relay does not serve this family */
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
	/* What the rule asks for, see map_pending; neither: the relay's default. */
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
 * map_newest: address and port of marked listeners -> the cookie of the one that began last. A
 * relay that replaces another one at the same port listens there beside it. Kernel half only.
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
 * Honest connect: connect() of a client succeeds only when the relay has reached the destination,
 * and fails with its error. Until then the connection is pending, and has a slot: an index that is
 * the same in map_pending and map_verdicts. bpf/pending.bpf.h says who changes a slot and when.
 *
 * map_pending, an array that relays map into their memory to read it. Written by the kernel half.
 *
 * map_verdicts, an array of __u64, TPROXY_WORD(generation, enum tproxy_answer), that relays map
 * into their memory to write it. It is a map of its own, because a relay must not be able to write
 * states. A word of another generation than the slot's means NONE. Each word is one store; nothing
 * orders it with other words.
 *
 * A generation is used once: it names one pending connect() together with the index of its slot.
 */
#define TPROXY_PENDING_MAX 65536 /* a power of two */

/* A state or an answer, with the generation that it belongs to. */
#define TPROXY_WORD(generation, low) ((__u64)(generation) << 8 | (low))
#define TPROXY_WORD_GENERATION(word) ((__u64)(word) >> 8)
#define TPROXY_WORD_LOW(word)	     ((__u32)((word)&0xff))

enum tproxy_pending_state {
	TPROXY_PENDING_FREE,
	TPROXY_PENDING_CLAIMED,	 /* being filled in: only word is valid */
	TPROXY_PENDING_WAITS,	 /* no SYN was seen, or its event found no room in the ring */
	TPROXY_PENDING_NOTIFIED, /* the relay has an event SYN */
	TPROXY_PENDING_ACCEPT,	 /* the kernel half decided: the relay gets it by accept(2) */
	/* connect() has succeeded: the socket that the relay has joined to the client is its. */
	TPROXY_PENDING_ESTABLISHED,
	/* As ESTABLISHED. The client has closed since, and its data may still be to be read. */
	TPROXY_PENDING_CLOSED,
};

struct tproxy_pending {
	__u64 word;	/* generation and enum tproxy_pending_state */
	__u64 cookie;	/* of the client's socket: key in map_socks */
	__u32 pair;	/* that gets the SYN, see map_pairs */
	__u32 ring;	/* that gets the events */
	__u64 since_ns; /* CLOCK_MONOTONIC: when it became NOTIFIED, or CLOSED */
};

enum tproxy_answer {
	TPROXY_ANSWER_NONE,
	TPROXY_ANSWER_FAILED,	 /* the next SYN gets a reset: ECONNREFUSED */
	TPROXY_ANSWER_TIMED_OUT, /* connect() fails with ETIMEDOUT at its next timer */
	TPROXY_ANSWER_ACCEPT,	 /* the next SYN goes to the real listener */
	TPROXY_ANSWER_TAKEN,	 /* ESTABLISHED or CLOSED was seen: the slot may be used again */
};

/*
 * map_rings, an array of ring buffers with struct tproxy_pending_event: the events of the slots
 * whose ring it is. ring_0, ring_1, ... are pins of them. Written by the kernel half, read by the
 * relay that owns the ring. map_ring_owners, an array with the same index, is mapped by relays and
 * written by them.
 */
#define TPROXY_RINGS_MAX 32
#define TPROXY_RING_SIZE 32768 /* bytes */

struct tproxy_ring {
	__u64 owner;	/* random number that a relay shares with its successors; 0 = nobody */
	__u64 alive_ns; /* CLOCK_MONOTONIC of the owner's last heartbeat */
	/*
	 * How long a dial of the owner may take, 0 = unknown, or without limit. Then, or when the
	 * owner has said so before, connect() fails with ETIMEDOUT.
	 */
	__u32 dial_ms;
	__u32 reserved;
};

enum tproxy_pending_kind {
	TPROXY_PENDING_SYN = 1, /* the slot is NOTIFIED: dial */
	/*
	 * The client has given up, and the slot is free. It was NOTIFIED and had no answer. May be
	 * lost if the ring is full.
	 */
	TPROXY_PENDING_GONE,
};

struct tproxy_pending_event {
	__u32 kind; /* enum tproxy_pending_kind */
	__u32 slot;
	__u64 generation;
};

/*
 * map_pairs, sockets by TPROXY_PAIR_REAL(pair) and TPROXY_PAIR_SINK(pair). A pair is two listening
 * sockets of a relay on the same address and port: the real one, which accepts, and the sink, which
 * swallows SYNs. The program pick, which the relay attaches to them, chooses one for each SYN.
 * Written by relays: the owner of a ring has the pairs from TPROXY_PAIR_FIRST(ring) on.
 */
#define TPROXY_PAIRS_OF_RING	(2 * TPROXY_PORTS_MAX)
#define TPROXY_PAIRS_MAX	(TPROXY_RINGS_MAX * TPROXY_PAIRS_OF_RING)
#define TPROXY_PAIR_FIRST(ring) ((ring)*TPROXY_PAIRS_OF_RING)
#define TPROXY_PAIR_REAL(pair)	(2 * (pair))
#define TPROXY_PAIR_SINK(pair)	(2 * (pair) + 1)

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
 * Rules. map_rules[0] is the rule set in force, an inner map with one struct tproxy_rules;
 * map_rules_active is a pin of the same inner map. map_rules_previous is a pin of the previous rule
 * set, while `tproxyctl rules load --confirm` waits. map_sets[0] and [1] are LPM tries: prefix of a
 * destination -> the sets that it is in. tproxy_rules.sets_slot selects the trie of the rules in
 * force. A new generation fills the trie that is not in use and replaces map_rules[0] in one step,
 * so each connect() is decided by one generation. map_sets_active is a pin of the trie in use.
 * Written by `tproxyctl rules load` and tproxy-load, read by connect and the tools.
 *
 * A rule of the file becomes one row for each combination of its lists; its rows share a group and
 * a counter. The first row whose conditions all hold decides. A row with the action SKIP comes from
 * `unless`: if it holds, the other rows of its group are skipped.
 */
#define TPROXY_RULES_MAX	   256
#define TPROXY_RULE_RANGES_MAX	   512
#define TPROXY_SETS_MAX		   256
#define TPROXY_PREFIXES_MAX	   (1 << 20) /* of all sets of a generation */
#define TPROXY_CGROUP_TESTS_MAX	   64
#define TPROXY_CGROUP_LEVELS_MAX   32  /* from the cgroup2 root on, that are tested */
#define TPROXY_CGROUP_PATTERN_LEN  96  /* of each part; a multiple of 8 */
#define TPROXY_CGROUP_NAME_MAX	   255 /* of the kernel */
#define TPROXY_RULE_COUNTERS_MAX   1024
#define TPROXY_RULE_NAME_LEN	   32
#define TPROXY_UPSTREAM_NAME_LEN   32
#define TPROXY_RULE_UPSTREAMS_MAX  64 /* that the rules name */
#define TPROXY_CGROUP_BITS_ENTRIES 4096
/* No counter: no rules were loaded, or the rule is one of `tproxyctl run`, which have none. */
#define TPROXY_NO_RULE 0xffff

enum tproxy_rule_action {
	TPROXY_RULE_REDIRECT,
	TPROXY_RULE_DIRECT,
	TPROXY_RULE_OBSERVE,
	TPROXY_RULE_REFUSE,
	TPROXY_RULE_SKIP,
};

enum tproxy_rule_conditions {
	TPROXY_RULE_SET = 1 << 0,
	TPROXY_RULE_PORT = 1 << 1,
	TPROXY_RULE_UID = 1 << 2,
	TPROXY_RULE_GID = 1 << 3,
	TPROXY_RULE_COMM = 1 << 4,
	TPROXY_RULE_CGROUP = 1 << 5,
};

enum tproxy_rule_flags {
	TPROXY_RULE_HONEST = 1 << 0, /* connect() waits for the relay, see map_pending */
	TPROXY_RULE_EAGER = 1 << 1,  /* it does not; neither: as the relay's default */
};

struct tproxy_rule {
	__u8 conditions; /* enum tproxy_rule_conditions; the members of others are 0 */
	__u8 action;	 /* enum tproxy_rule_action */
	__u8 protocol;	 /* IPPROTO_TCP, or IPPROTO_UDP with REFUSE or SKIP */
	__u8 set;	 /* bit in struct tproxy_set_bits */
	__u8 cgroup;	 /* index in tproxy_rules.cgroup_tests */
	__u8 flags;	 /* enum tproxy_rule_flags, for REDIRECT */
	__u16 group;	 /* number of the rule in the file, from 0 */
	__u16 counter;	 /* index in map_rule_stats and map_rule_texts */
	__u16 error;	 /* errno, for REFUSE */
	__u16 port_first, port_last;
	__u32 uid_first, uid_last; /* real ids in the initial user namespace */
	__u32 gid_first, gid_last;
	/*
	 * For REDIRECT: id of the upstream that the relay is to use, see common/upstream_id.h; 0 =
	 * the rule names none, and the relay chooses.
	 */
	__u32 upstream;
	char comm[TPROXY_COMM_LEN]; /* of the thread group leader, padded with NULs */
};

/* A cgroup that a rule names: by id, or by the name of the process's cgroup or of one above. */
struct tproxy_cgroup_test {
	__u64 cgroup_id;	      /* in or below this cgroup; 0 = by name */
	__u32 level;		      /* depth of cgroup_id below the cgroup2 root */
	__u16 prefix_len, suffix_len; /* of the parts before and after the '*' */
	__u16 exact;		      /* no '*': the prefix is the whole name */
	__u16 reserved;
	__u32 reserved2;
	char prefix[TPROXY_CGROUP_PATTERN_LEN]; /* padded with NULs */
	char suffix[TPROXY_CGROUP_PATTERN_LEN];
};

enum tproxy_rules_needs {
	TPROXY_NEEDS_SETS = 1 << 0,
	TPROXY_NEEDS_COMM = 1 << 1,
	TPROXY_NEEDS_CGROUP = 1 << 2,
	TPROXY_NEEDS_LOOPBACK = 1 << 3, /* the policy's TPROXY_RULES_LOOPBACK; no fact */
	TPROXY_NEEDS_UDP = 1 << 4,	/* some row refuses UDP: the hooks of UDP; no fact */
};

/* The sets that an address is in. A prefix has the bits of all shorter ones that contain it. */
struct tproxy_set_bits {
	__u64 words[TPROXY_SETS_MAX / 64];
};

/* Bit i: row i of tproxy_rules.rows. */
struct tproxy_row_bits {
	__u64 words[TPROXY_RULES_MAX / 64];
};

/*
 * The index of a rule set: which rows can match, by one fact at a time. Row i can match if its bit
 * is in all results. tproxy_rules.conditions has the conditions that some row has; the parts of the
 * index for others are not valid, and are not read. The protocol is always valid.
 *
 * Each enum tproxy_rule_range is a fact that is a number, with the condition
 * TPROXY_RULE_PORT << range. Its values are divided into ranges. Range k ends with ends[k] and
 * begins after ends[k - 1]. All values in a range satisfy the conditions of the same rows, rows[k],
 * which include the rows without this condition. The last end, and each unused one, is UINT32_MAX.
 * If there would be too many ranges, the last one has the rows of several.
 */
enum tproxy_rule_range {
	TPROXY_RANGE_PORT,
	TPROXY_RANGE_UID,
	TPROXY_RANGE_GID,
	TPROXY_RANGE_COMM, /* a hash of the command, see bpf/ruleindex.bpf.h */
	_TPROXY_RANGE_MAX,
};

struct tproxy_rule_ranges {
	__u32 ends[TPROXY_RULE_RANGES_MAX];
	struct tproxy_row_bits rows[TPROXY_RULE_RANGES_MAX];
};

/* The facts that are members of something: sets first, then cgroups. */
#define TPROXY_RULE_MEMBERS_MAX (TPROXY_SETS_MAX + TPROXY_CGROUP_TESTS_MAX)

struct tproxy_rule_index {
	struct tproxy_rule_ranges ranges[_TPROXY_RANGE_MAX];
	/* The rows that need set i, or TPROXY_SETS_MAX + i: for which cgroup test i must hold. */
	struct tproxy_row_bits members[TPROXY_RULE_MEMBERS_MAX];
	struct tproxy_row_bits without_set, without_cgroup; /* the rows without this condition */
	struct tproxy_row_bits protocols[2];		    /* by IPPROTO_TCP or _UDP, modulo 2 */
};

struct tproxy_rules {
	__u32 generation; /* counts loads; 0 = no rules were loaded yet */
	__u32 n_rows;
	__u32 n_cgroup_tests;
	__u32 needs;	      /* enum tproxy_rules_needs: facts that some row asks for */
	__u32 sets_slot;      /* 0 or 1: index in map_sets */
	__u16 default_action; /* if no row decides: enum tproxy_rule_action, not SKIP */
	__u16 default_error;  /* errno, for REFUSE */
	__u32 default_counter;
	__u32 default_upstream; /* id, for REDIRECT; or 0 */
	__u32 conditions;	/* enum tproxy_rule_conditions: for which index is valid */
	__u32 default_flags;	/* enum tproxy_rule_flags, for REDIRECT */
	struct tproxy_rule rows[TPROXY_RULES_MAX];
	struct tproxy_rule_index index;
	struct tproxy_cgroup_test cgroup_tests[TPROXY_CGROUP_TESTS_MAX];
	/* For the tools: names of the upstreams in rows and default, then empty ones. */
	char upstreams[TPROXY_RULE_UPSTREAMS_MAX][TPROXY_UPSTREAM_NAME_LEN];
	/* For the tools: time of the load (CLOCK_MONOTONIC) and absolute path of the file. */
	__u64 loaded_ns;
	char file[4088]; /* ends with a NUL; empty: from no file */
};

/* Key of map_sets[i]. An IPv4 prefix of n bits is one of 96 + n bits, as in tproxy_endpoint. */
struct tproxy_prefix {
	__u32 n_bits;
	__u8 addr[16];
};

/* map_rule_stats, a per-CPU array. A rule that a reload does not change keeps its counter. */
struct tproxy_rule_stat {
	__u64 hits;
	__u64 last_ns; /* CLOCK_MONOTONIC */
};

/* map_rule_texts, an array with the same index. User space only: tools, and the relay's log. */
struct tproxy_rule_text {
	__u64 hash;	   /* of the whole text */
	__u32 generation;  /* the last generation that has this rule; 0 = index not in use */
	__u32 line;	   /* in the rule file */
	__u64 since_ns;	   /* CLOCK_MONOTONIC; earlier the index belonged to another rule */
	__u32 line_before; /* in the previous rules, if they had this rule */
	__u32 reserved;
	char name[TPROXY_RULE_NAME_LEN];
	char upstream[TPROXY_UPSTREAM_NAME_LEN]; /* its name; empty: the rule names none */
	char text[416]; /* ends with a NUL; longer ones are cut and end with " ..." */
};

/* map_set_texts, an array: sets_slot * TPROXY_SETS_MAX + set. User space only. */
struct tproxy_set_text {
	__u32 generation; /* generation of the rules; any other value = index not in use */
	__u32 n_prefixes;
	char name[56]; /* or the rule's line, for a set without a name */
};

/*
 * map_cgroup_bits, an LRU map: the results of a generation's cgroup tests for a cgroup. Kernel half
 * only.
 */
struct tproxy_cgroup_key {
	__u64 cgroup_id;
	__u32 generation;
	__u32 reserved;
};

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

/*
 * The block list. map_block, an array of one entry, selects the list in force. Written by
 * `tproxyctl block`, `unblock` and `allow`, the loader and tproxy-load --follow, which map it into
 * their memory. Read by connect, block_in, block_out and xdp.
 *
 * map_block_tries, an array of maps, has two LPM tries for each of two slots, at the index
 * TPROXY_BLOCK_TRIE(slot, kind): prefix (struct tproxy_prefix) -> struct tproxy_block_entry.
 * map_block_0, map_allow_0, map_block_1 and map_allow_1 are pins of the same tries. An address is
 * blocked if the block trie has an entry for it, and the allow trie has none. An entry that is
 * shorter than the prefix of IPv4-mapped addresses (96 bits) never matches an IPv4 address.
 *
 * A whole list is replaced by filling the slot that is not in use and storing state. The hooks read
 * state once for each connect() or packet, so one list decides it. A hook may still use the other
 * slot until an RCU grace period has passed, which an update of map_block_tries waits for.
 *
 * The hooks remember addresses that pass (passed.bpf.h). A process that changes tries in use sets
 * CHANGING before, and clears it afterwards. If it is killed in between, CHANGING stays until the
 * next command, and each address is looked up.
 */
#define TPROXY_BLOCK_ENTRIES_MAX TPROXY_PREFIXES_MAX /* of each trie */
#define TPROXY_BLOCK_TEXTS_MAX	 1024
/* Entries in a row, each within the next one, that may have ended before the look-up gives up. */
#define TPROXY_BLOCK_ENDED_MAX 8
#define TPROXY_TRAFFIC_MAX     4096

/* All flags are in the lowest byte of state, so that no reader sees a part of them. */
enum tproxy_block_state {
	TPROXY_BLOCK_ENTRIES = 1 << 0, /* the block trie of the slot in use has entries */
	TPROXY_BLOCK_ALLOWS = 1 << 1,  /* the allow trie has entries too */
	TPROXY_BLOCK_SLOT = 1 << 2,    /* slot 1 is in use, otherwise slot 0 */
	TPROXY_BLOCK_TRAFFIC = 1 << 3, /* block_in and block_out count in map_traffic */
	/* User space only: TRAFFIC is set by the load, and stays when `tproxyctl top` ends. */
	TPROXY_BLOCK_TRAFFIC_STAYS = 1 << 4,
	/* User space only: the other slot has the previous list until this one is confirmed. */
	TPROXY_BLOCK_HELD = 1 << 5,
	/* The tries of the slot in use are being changed: the hooks remember no verdict. */
	TPROXY_BLOCK_CHANGING = 1 << 6,
};

enum tproxy_block_kind {
	TPROXY_BLOCK,
	TPROXY_ALLOW,
	_TPROXY_BLOCK_KIND_MAX,
};

#define TPROXY_BLOCK_TRIE(slot, kind) (_TPROXY_BLOCK_KIND_MAX * (slot) + (kind))

struct tproxy_block_slot {
	__u64 loaded_ns;   /* CLOCK_MONOTONIC of the last change */
	__u64 next_end_ns; /* CLOCK_MONOTONIC: no entry ends before; 0 = none ends */
	__u32 n_entries[_TPROXY_BLOCK_KIND_MAX];
	__u32 error;	  /* errno of connect() to a blocked address; 0 = EACCES */
	__u32 generation; /* counts lists that were replaced as a whole */
};

/* The kernel half reads state and changes at once, and error of the slot in use. */
struct tproxy_block {
	union {
		struct {
			__u32 state; /* enum tproxy_block_state; 0: the hooks do nothing */
			/*
			 * Number of changes of the list. The store that changes it raises this. A
			 * verdict that a hook remembers is valid under one number only. 0: none is.
			 */
			__u32 changes;
		};
		__u64 state_and_changes;
	};
	struct tproxy_block_slot slots[2];
};

enum tproxy_block_entry_flags {
	/* For user space only. */
	TPROXY_BLOCK_BY_FILE = 1 << 0,	 /* of a list that was loaded as a whole */
	TPROXY_BLOCK_BY_SAFETY = 1 << 1, /* added so that nobody locks himself out */
};

struct tproxy_block_entry {
	__u64 ends_ns; /* CLOCK_MONOTONIC; 0 = it stays */
	/* Block trie: what it stopped. Allow trie: what would have been stopped without it. */
	__u64 packets; /* and connect() calls */
	__u64 bytes;
	__u64 last_ns; /* CLOCK_MONOTONIC of the last one, to a few ms */
	__u32 n_bits;  /* as in the key */
	__u16 comment; /* index in map_block_texts, 0 = none */
	__u16 flags;   /* enum tproxy_block_entry_flags */
};

/* map_block_texts, an array: comments of entries. Index 0 is not used. User space only. */
struct tproxy_block_text {
	__u32 reserved;
	char text[124]; /* ends with a NUL; empty: index not in use */
};

/* map_block_stats, a per-CPU array by place. Counted while the list has entries. */
enum tproxy_place {
	TPROXY_PLACE_CONNECT, /* connect() in a scope, by destination */
	TPROXY_PLACE_INGRESS, /* block_in: packets to sockets of a scope, by source */
	TPROXY_PLACE_EGRESS,  /* block_out: packets of sockets of a scope, by destination */
	TPROXY_PLACE_XDP,     /* packets that an interface receives, by source */
	_TPROXY_PLACE_MAX,
};

/* Passed: seen - dropped - invalid. Packets of the loopback device are not seen. */
struct tproxy_block_stat {
	__u64 seen; /* connect() calls, or packets, of any protocol */
	__u64 dropped;
	__u64 dropped_bytes;
	__u64 invalid; /* not parsed: the header is cut or wrong; passed on to the kernel */
	__u64 allowed; /* blocked, but passed by the allow list */
	__u64 control; /* blocked, but passed: ND, MLD, IGMP, DHCP */
};

/*
 * map_traffic, a per-CPU hash: id of a socket's cgroup -> its packets and bytes, those of the
 * loopback device too, while TPROXY_BLOCK_TRAFFIC is set. Counted by block_in and block_out, which
 * insert the entry with the first packet. User space deletes entries of removed cgroups, and
 * inserts the entry 0, which counts what finds no room. Dropped packets do not count. Bytes begin
 * with the IP header. A packet that stands for many (GSO, GRO) counts as many packets; its bytes
 * are those that it has, with one header.
 *
 * map_traffic_sums, a per-CPU hash: id of a cgroup of map_targets -> the sum of all cgroups in and
 * below it. A cgroup counts for the deepest target that it is in. User space inserts and deletes
 * the entries.
 */
struct tproxy_traffic {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
	/* map_traffic, kernel half only: key in map_traffic_sums; 0 = not looked for yet */
	__u64 target_id;
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
	/* It should, and the relay accepts first instead, because: */
	TPROXY_STAT_HONEST_MPTCP,   /* of MPTCP */
	TPROXY_STAT_HONEST_NO_SLOT, /* map_pending had no free slot for it */
	TPROXY_STAT_HONEST_DATA,    /* its SYN carries data (Fast Open) */
	TPROXY_STAT_HONEST_TTL,	    /* its SYN cannot be swallowed: a TTL of 255, or no sink yet */
	TPROXY_STAT_HONEST_RING_FULL, /* SYNs whose event found no room; the next one tries again */
	TPROXY_STAT_HONEST_STRANGER,  /* SYNs to a pair that nobody has redirected: refused */
	_TPROXY_STAT_MAX,
};

_Static_assert(sizeof(struct tproxy_policy) == 40, "ABI");
_Static_assert(sizeof(struct tproxy_endpoint) == 20, "ABI");
_Static_assert(sizeof(struct tproxy_listen) == 148, "ABI");
_Static_assert(sizeof(struct tproxy_relay) == 336, "ABI");
_Static_assert(sizeof(struct tproxy_conn) == 176, "ABI");
_Static_assert(sizeof(struct tproxy_tuple) == 56, "ABI");
_Static_assert(sizeof(struct tproxy_failed_key) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_failed) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_target) == 4096, "ABI");
_Static_assert(sizeof(struct tproxy_mark) == 200, "ABI");
_Static_assert(sizeof(struct tproxy_listener) == 24, "ABI");
_Static_assert(sizeof(struct tproxy_pending) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_ring) == 24, "ABI");
_Static_assert(sizeof(struct tproxy_pending_event) == 16, "ABI");
_Static_assert((TPROXY_PENDING_MAX & (TPROXY_PENDING_MAX - 1)) == 0, "ABI");
_Static_assert(sizeof(struct tproxy_newest_key) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_strayed_key) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_whoami) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_rule) == 52, "ABI");
_Static_assert(sizeof(struct tproxy_cgroup_test) == 216, "ABI");
_Static_assert(sizeof(struct tproxy_row_bits) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_rule_index) == 4 * 512 * 36 + 324 * 32, "ABI");
_Static_assert(sizeof(struct tproxy_rules) ==
		       40 + 256 * 52 + sizeof(struct tproxy_rule_index) + 64 * 216 + 64 * 32 + 4096,
	       "ABI");
_Static_assert(sizeof(struct tproxy_prefix) == 20, "ABI");
_Static_assert(sizeof(struct tproxy_set_bits) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_rule_stat) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_rule_text) == 512, "ABI");
_Static_assert(sizeof(struct tproxy_set_text) == 64, "ABI");
_Static_assert(sizeof(struct tproxy_cgroup_key) == 16, "ABI");
_Static_assert(sizeof(struct tproxy_observed) == 104, "ABI");
_Static_assert(sizeof(struct tproxy_observed_slot) == 128, "ABI");
_Static_assert(sizeof(struct tproxy_event) == 152, "ABI");
_Static_assert(sizeof(struct tproxy_interest) == 80, "ABI");
_Static_assert(sizeof(struct tproxy_watch_start) == 128, "ABI");
_Static_assert(sizeof(struct tproxy_watch_sent) == 64, "ABI");
_Static_assert(sizeof(struct tproxy_watch_end) == 176, "ABI");
_Static_assert(sizeof(struct tproxy_flow_key) == 48, "ABI");
_Static_assert(sizeof(struct tproxy_flow) == 104, "ABI");
_Static_assert(sizeof(struct tproxy_block) == 72, "ABI");
/* A node of the trie then takes 96 bytes. */
_Static_assert(sizeof(struct tproxy_block_entry) == 40, "ABI");
_Static_assert(sizeof(struct tproxy_block_text) == 128, "ABI");
_Static_assert(sizeof(struct tproxy_block_stat) == 48, "ABI");
_Static_assert(sizeof(struct tproxy_traffic) == 40, "ABI");

#endif
