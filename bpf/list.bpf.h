/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The list of live connections: an iterator over TCP sockets, pinned as `connections`. Each read(2)
 * of that file runs it in the reader's context. Nothing is stored for it, and no hook of a
 * connection does anything for it.
 *
 * The kernel visits the sockets of the network namespace of the process that opened the file, and
 * locks each one, so the numbers of a line are those of one moment. A socket is listed if its
 * storage has a published record (redirected), or its cookie an entry in map_observed. All others
 * cost a test of the cookie and two look-ups at most. After the last socket a comment tells how
 * many connections the maps hold, in all namespaces.
 *
 * One line is one connection; common/conn_row.h has its columns and parses it. A line that does not
 * fit into the reader's buffer is printed again by the next read. Names that users choose are
 * escaped: a byte other than printable ASCII, a blank and a backslash become \xNN. So each line has
 * the same number of columns.
 */
#ifndef TPROXY_LIST_BPF_H
#define TPROXY_LIST_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "endpoint.bpf.h"
#include "interest.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "observe.bpf.h"
#include "tproxy_abi.h"

/* Bytes of a name that are printed. That of a cgroup may have TPROXY_CGROUP_NAME_MAX. */
#define LIST_NAME_LEN 64

/* The arguments are 64 bits wide, as bpf_seq_printf() reads them. */
#define list_print(seq, format, ...)                                                               \
	({                                                                                         \
		static const char _format[] = format;                                              \
		const __u64 _args[] = { __VA_ARGS__ };                                             \
		bpf_seq_printf(seq, _format, sizeof(_format), _args, sizeof(_args));               \
	})
#define list_text(seq, text)                                                                       \
	({                                                                                         \
		static const char _text[] = text;                                                  \
		bpf_seq_write(seq, (void *)_text, sizeof(_text) - 1);                              \
	})

/* What a line says about a connection, apart from its socket. */
struct list_conn {
	__u64 cookie, netns_cookie, cgroup_id, started_ns;
	__u32 pid, uid, rule_counter, relay_pid;
	struct tproxy_endpoint src, dst;
	bool observed;
	char comm[TPROXY_COMM_LEN];
};

static __always_inline void list_header(struct seq_file *seq)
{
	list_text(seq, "ID PID UID CGROUP_ID NETNS VERDICT STATE SOURCE DESTINATION TX RX RTT_US "
		       "AGE_MS RELAY RULE CGROUP COMMAND\n");
}

/* Prints a number, or "-" for 0, and a blank. */
static __always_inline void list_number(struct seq_file *seq, __u32 number)
{
	if (number)
		list_print(seq, "%u ", number);
	else
		list_text(seq, "- ");
}

/* A name that a user may have chosen, NUL-terminated unless it fills the array. */
struct list_name {
	struct seq_file *seq;
	char bytes[LIST_NAME_LEN];
};

static long list_name_byte(__u32 i, struct list_name *name)
{
	const unsigned char c = name->bytes[i % LIST_NAME_LEN];

	if (!c)
		return 1;
	if (c > ' ' && c < 0x7f && c != '\\')
		bpf_seq_write(name->seq, &c, 1);
	else
		list_print(name->seq, "\\x%02x", c);
	return 0;
}

/*
 * Prints a name, or "\x00" if it is empty. A callback, which the verifier checks once, and not for
 * each byte.
 */
static __always_inline void list_name(struct list_name *name)
{
	if (name->bytes[0])
		bpf_loop(LIST_NAME_LEN, list_name_byte, name, 0);
	else
		list_text(name->seq, "\\x00");
}

/* Prints a.b.c.d:port or [v6]:port, and a blank. The kernel prints all digits of an IPv6 address.
 */
static __always_inline void list_end(struct seq_file *seq, const struct tproxy_endpoint *ep)
{
	if (endpoint_is_mapped4(ep))
		list_print(seq, "%pI4:%u ", (__u64)&ep->addr[12], ep->port);
	else
		list_print(seq, "[%pI6]:%u ", (__u64)ep->addr, ep->port);
}

/* As ss(8) prints them. A socket in another state is no connection. */
static const char list_states[16][12] = {
	[BPF_TCP_ESTABLISHED] = "established", [BPF_TCP_SYN_SENT] = "syn-sent",
	[BPF_TCP_FIN_WAIT1] = "fin-wait-1",    [BPF_TCP_FIN_WAIT2] = "fin-wait-2",
	[BPF_TCP_CLOSE_WAIT] = "close-wait",   [BPF_TCP_LAST_ACK] = "last-ack",
	[BPF_TCP_CLOSING] = "closing",
};

/*
 * Data that this side has sent, each byte counted once, as event_count_bytes() counts it: sequence
 * numbers include the SYN and the FIN.
 */
static __always_inline __u64 list_sent(const struct tcp_sock *tp, __u8 state)
{
	const __u32 snd_nxt = tp->snd_nxt;
	__u64 sent = tp->bytes_acked + (__u32)(snd_nxt - tp->snd_una);

	if (sent)
		sent--;
	if (sent && tcp_has_queued_fin(state) && snd_nxt == tp->write_seq)
		sent--;
	return sent;
}

static __always_inline __u64 list_received(const struct tcp_sock *tp)
{
	const unsigned long flags = tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags;
	const __u64 received = tp->bytes_received;

	return received && flags & (1UL << SOCK_DONE) ? received - 1 : received;
}

/* True for the text "default ACTION". No rule begins with this word. */
static __always_inline bool list_is_default(const struct tproxy_rule_text *text)
{
	return *(const __u64 *)text->text == *(const __u64 *)"default ";
}

/* Prints the rule's name, or "line:N" if it has none, or "default". */
static __always_inline void list_rule(struct seq_file *seq, __u32 counter)
{
	const struct tproxy_rule_text *text = bpf_map_lookup_elem(&map_rule_texts, &counter);
	struct list_name name = { .seq = seq };

	if (!text || !text->generation) {
		list_text(seq, "- ");
		return;
	}
	__builtin_memcpy(name.bytes, text->name, sizeof(text->name));
	if (name.bytes[0])
		list_name(&name);
	else if (text->line && !list_is_default(text))
		list_print(seq, "line:%u", text->line);
	else
		list_text(seq, "default");
	list_text(seq, " ");
}

/*
 * Prints the last part of the path of the socket's cgroup, if the process that called connect() was
 * in that cgroup.
 */
static __always_inline void list_cgroup(struct seq_file *seq, const struct tcp_sock *tp,
					__u64 cgroup_id)
{
	const struct cgroup *cgroup = tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup;
	struct list_name name = { .seq = seq };
	const struct kernfs_node *kn;

	kn = cgroup ? cgroup->kn : NULL;
	if (kn && kn->id == cgroup_id)
		bpf_probe_read_kernel_str(name.bytes, sizeof(name.bytes), kn->name);
	if (name.bytes[0])
		list_name(&name);
	else
		list_text(seq, "-");
	list_text(seq, " ");
}

static __always_inline void list_command(struct seq_file *seq, const char *comm)
{
	struct list_name name = { .seq = seq };

	__builtin_memcpy(name.bytes, comm, TPROXY_COMM_LEN);
	list_name(&name);
}

static __always_inline void list_line(struct seq_file *seq, const struct tcp_sock *tp, __u8 state,
				      const struct list_conn *conn)
{
	list_print(seq, "%llx %u %u %llu %llu ", conn->cookie, conn->pid, conn->uid,
		   conn->cgroup_id, conn->netns_cookie);
	if (conn->observed)
		list_text(seq, "observed ");
	else
		list_text(seq, "redirected ");
	list_print(seq, "%s ", (__u64)list_states[state % 16]);
	list_end(seq, &conn->src);
	list_end(seq, &conn->dst);
	list_print(seq, "%llu %llu ", list_sent(tp, state), list_received(tp));
	list_number(seq, tp->srtt_us >> 3);
	list_print(seq, "%llu ", (bpf_ktime_get_ns() - conn->started_ns) / 1000000);
	list_number(seq, conn->relay_pid);
	list_rule(seq, conn->rule_counter);
	list_cgroup(seq, tp, conn->cgroup_id);
	list_command(seq, conn->comm);
	list_text(seq, "\n");
}

/* Returns the PID of the relay that listens where the connection went, or 0. */
static __always_inline __u32 list_relay_pid(const struct tproxy_conn *conn)
{
	const __u64 netns_cookie = conn->netns_cookie;
	const struct tproxy_relay *relay = bpf_map_lookup_elem(&map_config, &netns_cookie);
	const __u32 i = conn->port_index;
	__u16 port;

	if (!relay || i >= TPROXY_PORTS_MAX)
		return 0;
	if (endpoint_is_mapped4(&conn->relay))
		port = relay->listen[TPROXY_INET].ports[i];
	else
		port = relay->listen[TPROXY_INET6].ports[i];
	return port == conn->relay.port ? relay->pid : 0;
}

/* Returns false if this socket is not that of a redirected connection. */
static __always_inline bool list_get_redirected(struct tcp_sock *tp, struct list_conn *ret)
{
	const struct client *client = bpf_sk_storage_get(&map_clients, tp, NULL, 0);

	if (!client || !client->published)
		return false;
	ret->src = client->conn.src;
	ret->dst = client->conn.dst;
	ret->netns_cookie = client->conn.netns_cookie;
	ret->cgroup_id = client->conn.cgroup_id;
	ret->started_ns = client->conn.started_ns;
	ret->pid = client->conn.pid;
	ret->uid = client->conn.uid;
	ret->rule_counter = client->conn.rule_counter;
	ret->relay_pid = list_relay_pid(&client->conn);
	__builtin_memcpy(ret->comm, client->conn.comm, sizeof(ret->comm));
	return true;
}

/* Returns false if this socket is not that of an observed connection. */
static __always_inline bool list_get_observed(__u64 cookie, struct list_conn *ret)
{
	const struct tproxy_observed *observed;

	if (!is_observing())
		return false;
	observed = observed_find(cookie);
	if (!observed || !(observed->flags & TPROXY_OBSERVED_SENT))
		return false;
	ret->observed = true;
	ret->src = observed->src;
	ret->dst = observed->dst;
	ret->netns_cookie = observed->netns_cookie;
	ret->cgroup_id = observed->cgroup_id;
	ret->started_ns = observed->started_ns;
	ret->pid = observed->pid;
	ret->uid = observed->uid;
	ret->rule_counter = observed->rule_counter;
	__builtin_memcpy(ret->comm, observed->comm, sizeof(ret->comm));
	return true;
}

/*
 * Callbacks that count the entries of the maps. They add atomically, although nobody else does:
 * otherwise the verifier would follow each value of the sum.
 */
static long list_count_sock(void *map, const __u64 *key, const struct tproxy_conn *conn, __u64 *n)
{
	__sync_fetch_and_add(n, 1);
	return 0;
}

static long list_count_observed(void *map, const __u64 *key, const struct tproxy_observed *conn,
				__u64 *n)
{
	if (conn->flags & TPROXY_OBSERVED_SENT)
		__sync_fetch_and_add(n, 1);
	return 0;
}

static long list_count_slot(void *map, const __u32 *key, const struct tproxy_observed_slot *slot,
			    __u64 *n)
{
	if (slot->cookie && slot->conn.flags & TPROXY_OBSERVED_SENT)
		__sync_fetch_and_add(n, 1);
	return 0;
}

/* After the last socket: a reader that got fewer lines looks into the other namespaces. */
static __always_inline void list_total(struct seq_file *seq)
{
	__u64 n = 0;

	bpf_for_each_map_elem(&map_socks, list_count_sock, &n, 0);
	if (is_observing()) {
		bpf_for_each_map_elem(&map_observed_slots, list_count_slot, &n, 0);
		bpf_for_each_map_elem(&map_observed, list_count_observed, &n, 0);
	}
	list_print(seq, "# total in all network namespaces: %llu\n", n);
}

static __always_inline void list_socket(struct seq_file *seq, struct sock_common *skc)
{
	const __u8 state = skc->skc_state;
	struct list_conn conn = { .cookie = skc->skc_cookie.counter };
	struct tcp_sock *tp;

	/* The hooks of a connection that is listed have asked for its socket's cookie. */
	if (!conn.cookie || !list_states[state % 16][0])
		return;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)
		return;
	if (list_get_redirected(tp, &conn) || list_get_observed(conn.cookie, &conn))
		list_line(seq, tp, state, &conn);
}

#endif
