/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel structures that the programs read, reduced to the fields in use. CO-RE finds the
 * offset of each field at load time from the BTF of the running kernel, which every supported
 * kernel has.
 */
#ifndef TPROXY_KERNEL_BPF_H
#define TPROXY_KERNEL_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in6.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define KERNEL_STRUCT __attribute__((preserve_access_index))

struct net_device {
	unsigned int flags; /* IFF_* */
} KERNEL_STRUCT;

struct dst_entry {
	struct net_device *dev;
} KERNEL_STRUCT;

typedef struct {
	long long counter;
} KERNEL_STRUCT atomic64_t;

struct netns_ipv4 {
	__u8 sysctl_tcp_syn_linear_timeouts; /* since 6.5 */
} KERNEL_STRUCT;

struct net {
	struct netns_ipv4 ipv4;
} KERNEL_STRUCT;

typedef struct {
	struct net *net;
} KERNEL_STRUCT possible_net_t;

struct sock_common {
	unsigned long skc_flags; /* bits, enum sock_flags */
	atomic64_t skc_cookie;	 /* 0 = none was requested yet */
	volatile unsigned char skc_state;
	possible_net_t skc_net;
} KERNEL_STRUCT;

struct cgroup;

struct sock_cgroup_data {
	struct cgroup *cgroup; /* in which the socket was made */
} KERNEL_STRUCT;

struct kernel_uid {
	__u32 val; /* in the initial user namespace */
} KERNEL_STRUCT;

struct sock {
	struct sock_common __sk_common;
	struct dst_entry *sk_dst_cache;
	int sk_err; /* an errno */
	struct sock_cgroup_data sk_cgrp_data;
	struct kernel_uid sk_uid; /* file system uid of the process that made the socket */
} KERNEL_STRUCT;

struct sk_buff {
	struct sock *sk;
} KERNEL_STRUCT;

struct ip_options {
	unsigned char srr; /* offset of the source route, 0 = none */
} KERNEL_STRUCT;

struct ip_options_rcu {
	struct ip_options opt;
} KERNEL_STRUCT;

struct ipv6_pinfo {
	__u8 min_hopcount; /* IPV6_MINHOPCOUNT */
} KERNEL_STRUCT;

union flowi_uli {
	struct {
		__be16 dport;
	} ports;
} KERNEL_STRUCT;

struct flowi4 {
	__be32 daddr;
	union flowi_uli uli;
} KERNEL_STRUCT;

struct flowi6 {
	struct in6_addr daddr;
	union flowi_uli uli;
} KERNEL_STRUCT;

struct flowi {
	union {
		struct flowi4 ip4;
		struct flowi6 ip6;
	} u;
} KERNEL_STRUCT;

struct inet_cork_full {
	struct flowi fl; /* where held back data (MSG_MORE, UDP_CORK) will go */
} KERNEL_STRUCT;

struct inet_sock {
	struct sock sk;
	struct ipv6_pinfo *pinet6; /* NULL for an AF_INET socket */
	__u8 min_ttl;		   /* IP_MINTTL */
	struct ip_options_rcu *inet_opt;
	unsigned long inet_flags; /* since 6.6: bits, enum inet_flags */
	struct inet_cork_full cork;
} KERNEL_STRUCT;

struct udp_sock {
	struct inet_sock inet;
	int pending; /* family of the held back data, 0 = none */
} KERNEL_STRUCT;

/* Before 6.6. */
struct inet_sock___old {
	__u8 freebind : 1, transparent : 1;
} KERNEL_STRUCT;

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	__u32 icsk_rto;		 /* jiffies */
	__u32 icsk_user_timeout; /* ms */
} KERNEL_STRUCT;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 write_seq, snd_nxt, snd_una;
	__u64 bytes_acked, bytes_received;
	__u32 srtt_us; /* smoothed round trip time, times 8 */
	__u8 repair : 1;
	bool is_mptcp; /* without CONFIG_MPTCP there is none */
	void *md5sig_info;
} KERNEL_STRUCT;

/* Since 6.7. */
struct tcp_sock___ao {
	void *ao_info;
} KERNEL_STRUCT;

struct kernfs_node {
	const char *name;
	__u64 id;
} KERNEL_STRUCT;

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[]; /* since 6.1; by level, the last one is the cgroup itself */
} KERNEL_STRUCT;

struct css_set {
	struct cgroup *dfl_cgrp; /* in the cgroup2 hierarchy */
} KERNEL_STRUCT;

struct task_struct {
	int tgid; /* in the initial PID namespace */
	struct task_struct *group_leader;
	struct css_set *cgroups;
	char comm[16];
} KERNEL_STRUCT;

/*
 * Bit numbers in sock_common::skc_flags and inet_sock::inet_flags, unchanged since these fields
 * exist.
 */
#define SOCK_DEAD	       0 /* the program has closed it */
#define SOCK_DONE	       1 /* the peer's FIN has come */
#define SOCK_KEEPOPEN	       3
#define INET_FLAGS_FREEBIND    11
#define INET_FLAGS_TRANSPARENT 15

/* True in the states in which this side has queued its FIN. */
static __always_inline bool tcp_has_queued_fin(__u32 state)
{
	return state == BPF_TCP_FIN_WAIT1 || state == BPF_TCP_FIN_WAIT2 ||
	       state == BPF_TCP_CLOSING || state == BPF_TCP_LAST_ACK;
}

#define IFF_UP	     (1 << 0)
#define IFF_LOOPBACK (1 << 3)

struct seq_file {
	long long index; /* of the object; for sockets from 1 */
} KERNEL_STRUCT;

/*
 * The context of an iterator over TCP sockets. The kernel numbers its members, so their places need
 * no search in BTF, which takes about 1 ms for each structure.
 */
struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common; /* NULL: all sockets were visited */
	__u32 uid;
};

/* Reads a pointer or a number at an address in the kernel. */
static __always_inline __u64 read_kernel(const void *address)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), address);
	return value;
}

/*
 * Reads the command of the calling process; a thread may have another one. comm: as long as
 * task_struct::comm. The task is a number here: where a program follows a pointer that the verifier
 * trusts, Linux 6.18 searches all types of the kernel four times, which takes 2 ms of each load.
 */
static __always_inline void read_leader_comm(void *comm)
{
	const struct task_struct *task = (void *)bpf_get_current_task();

	task = (void *)read_kernel(__builtin_preserve_access_index(&task->group_leader));
	bpf_probe_read_kernel(comm, sizeof(task->comm),
			      __builtin_preserve_access_index(&task->comm));
}

#endif
