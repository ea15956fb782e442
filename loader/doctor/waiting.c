// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: clients that wait for a relay, and routing rules by user or mark.
 *
 * A firewall may drop the packets between a client and the relay, by user, by mark or by cgroup.
 * Its rules cannot be evaluated from here, but their effect can be seen: a SYN to the relay was
 * retransmitted, though the relay is on this host. The kernel is asked for such sockets by
 * sock_diag(7), in the relay's network namespace. Listeners are in the same answer. If the accept
 * queue of one is full, the relay does not accept, and no filter is suspected. A pending connection
 * (honest connect) whose SYN the relay has got sends SYNs until the destination is reached.
 *
 * For redirected connections a routing rule by user applies to the relay's user, not to the
 * client's, and one by mark to the mark of the relay's socket. Such rules are a warning. Rules by
 * mark are no finding if the relay may set marks: it passes the client's on with --pass-mark.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/fib_rules.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "bpffs.h"
#include "doctor.h"
#include "host/names.h"
#include "host/netlink.h"
#include "host/process.h"
#include "state/relays.h"
#include "tproxy_abi.h"
#include "util.h"

/* How many kinds of clients (user, cgroup) are reported. */
#define WAITING_MAX 8

struct waiting {
	__u32 uid;
	uint64_t cgroup_id;
	unsigned int n;
};

struct observed {
	const struct tproxy_relay *relay;
	int socks_fd, pending_fd; /* map_socks and map_pending, or -1 */
	struct waiting kinds[WAITING_MAX];
	size_t n_kinds;
	unsigned int waiting; /* sockets of all kinds */
	unsigned int full;    /* a port whose accept queue is full, 0: none */
	unsigned int uid_rules;
	__u32 first_uid, last_uid; /* the range of one of these rules */
	unsigned int mark_rules;
	__u32 mark; /* of one of these rules */
};

/*
 * Returns true if this is an address of the relay. @addr has 4 or 16 bytes in network order, @port
 * is in host order.
 */
static bool is_relays(const struct tproxy_relay *relay, int family, const void *addr, __u16 port)
{
	const struct tproxy_listen *listen =
		&relay->listen[family == AF_INET ? TPROXY_INET : TPROXY_INET6];
	const size_t len = family == AF_INET ? 4 : 16;
	int i;

	for (i = 0; i < listen->n_ports && i < TPROXY_PORTS_MAX; i++) {
		if (listen->ports[i] == port &&
		    memcmp(addr, listen->addr + sizeof(listen->addr) - len, len) == 0)
			return true;
	}
	return false;
}

/*
 * Finds the attribute of this type and at least this size, after the message's own structure of
 * @header bytes. Returns NULL if there is none.
 */
static const void *find_attr(const struct nlmsghdr *msg, size_t header, unsigned short type,
			     size_t size)
{
	const char *begin = (const char *)NLMSG_DATA(msg) + NLMSG_ALIGN(header);
	const struct rtattr *attr = (const struct rtattr *)begin;
	int left = (int)(msg->nlmsg_len - NLMSG_LENGTH(header));

	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (attr->rta_type == type && RTA_PAYLOAD(attr) >= size)
			return RTA_DATA(attr);
	}
	return NULL;
}

static void count(struct observed *seen, __u32 uid, uint64_t cgroup_id)
{
	size_t i;

	seen->waiting++;
	for (i = 0; i < seen->n_kinds; i++) {
		if (seen->kinds[i].uid == uid && seen->kinds[i].cgroup_id == cgroup_id)
			break;
	}
	if (i == WAITING_MAX)
		return;
	if (i == seen->n_kinds)
		seen->kinds[seen->n_kinds++] =
			(struct waiting){ .uid = uid, .cgroup_id = cgroup_id };
	seen->kinds[i].n++;
}

/* Returns true if the SYN of this socket has reached the relay, which is dialling. */
static bool is_pending(const struct observed *seen, const struct inet_diag_msg *diag)
{
	const __u64 cookie = (__u64)diag->id.idiag_cookie[1] << 32 | diag->id.idiag_cookie[0];
	struct tproxy_pending slot;
	struct tproxy_conn conn;
	__u32 index;

	if (bpf_map_lookup_elem(seen->socks_fd, &cookie, &conn) < 0 || !conn.pending)
		return false;
	index = conn.pending - 1;
	return bpf_map_lookup_elem(seen->pending_fd, &index, &slot) == 0 && slot.cookie == cookie &&
	       tproxy_pending_is_notified(TPROXY_WORD_LOW(slot.word));
}

static void on_socket(const struct nlmsghdr *msg, void *data)
{
	const struct inet_diag_msg *diag = NLMSG_DATA(msg);
	struct observed *seen = data;
	uint64_t cgroup_id = 0;
	const void *attr;

	if (msg->nlmsg_type != SOCK_DIAG_BY_FAMILY || msg->nlmsg_len < NLMSG_LENGTH(sizeof(*diag)))
		return;
	if (diag->idiag_state == TCP_LISTEN) {
		/* The same condition as sk_acceptq_is_full(). */
		if (diag->idiag_rqueue > diag->idiag_wqueue &&
		    is_relays(seen->relay, diag->idiag_family, diag->id.idiag_src,
			      ntohs(diag->id.idiag_sport)))
			seen->full = ntohs(diag->id.idiag_sport);
		return;
	}
	if (diag->idiag_retrans == 0 ||
	    !is_relays(seen->relay, diag->idiag_family, diag->id.idiag_dst,
		       ntohs(diag->id.idiag_dport)) ||
	    is_pending(seen, diag))
		return;
	attr = find_attr(msg, sizeof(*diag), INET_DIAG_CGROUP_ID, sizeof(cgroup_id));
	if (attr)
		memcpy(&cgroup_id, attr, sizeof(cgroup_id));
	count(seen, diag->idiag_uid, cgroup_id);
}

/* "not fwmark" is left out: VPNs use it to exempt the packets of the tunnel itself. */
static void count_mark(struct observed *seen, const struct nlmsghdr *msg)
{
	const struct fib_rule_hdr *hdr = NLMSG_DATA(msg);
	const __u32 *mark = find_attr(msg, sizeof(*hdr), FRA_FWMARK, sizeof(*mark));

	if (!mark || hdr->flags & FIB_RULE_INVERT)
		return;
	seen->mark_rules++;
	seen->mark = *mark;
}

static void on_rule(const struct nlmsghdr *msg, void *data)
{
	const struct fib_rule_uid_range *range;
	struct observed *seen = data;

	if (msg->nlmsg_type != RTM_NEWRULE ||
	    msg->nlmsg_len < NLMSG_LENGTH(sizeof(struct fib_rule_hdr)))
		return;
	count_mark(seen, msg);
	range = find_attr(msg, sizeof(struct fib_rule_hdr), FRA_UID_RANGE, sizeof(*range));
	if (!range || (range->start == 0 && range->end == UINT32_MAX))
		return;
	seen->uid_rules++;
	seen->first_uid = range->start;
	seen->last_uid = range->end;
}

static void query_sockets(struct observed *seen, int family)
{
	struct {
		struct nlmsghdr nlh;
		struct inet_diag_req_v2 req;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request), .nlmsg_type = SOCK_DIAG_BY_FAMILY },
		.req = { .sdiag_family = (__u8)family,
			 .sdiag_protocol = IPPROTO_TCP,
			 .idiag_states = 1 << TCP_SYN_SENT | 1 << TCP_LISTEN,
			 .id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } },
	};
	_cleanup_close_ int fd = netlink_open_in((pid_t)seen->relay->pid, NETLINK_SOCK_DIAG);

	if (fd >= 0)
		netlink_dump(fd, &request.nlh, on_socket, seen);
}

static void query_rules(struct observed *seen, int family)
{
	struct {
		struct nlmsghdr nlh;
		struct fib_rule_hdr hdr;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETRULE },
		.hdr = { .family = (__u8)family },
	};
	_cleanup_close_ int fd = netlink_open_in((pid_t)seen->relay->pid, NETLINK_ROUTE);

	if (fd >= 0)
		netlink_dump(fd, &request.nlh, on_rule, seen);
}

static void report_waiting(struct doctor *d, const struct observed *seen)
{
	const __u32 pid = seen->relay->pid;
	size_t i;

	if (seen->full) {
		doctor_add(
			d, DOCTOR_ERROR, "waiting",
			"relay %u: the backlog of its port %u is full: the relay does not accept, clients wait",
			pid, seen->full);
		doctor_fix(d, "see the relay's log; for a larger backlog: --backlog");
		return;
	}
	for (i = 0; i < seen->n_kinds; i++) {
		const struct waiting *kind = &seen->kinds[i];
		_cleanup_free_ char *cgroup = names_cgroup(kind->cgroup_id);

		doctor_add(
			d, DOCTOR_ERROR, "waiting",
			"%u connection%s of uid %u at '%s' get%s no answer from relay %u, whose backlog has room: a firewall rule or a program at that cgroup drops the packets",
			kind->n, kind->n == 1 ? "" : "s", kind->uid, cgroup ? cgroup : "?",
			kind->n == 1 ? "s" : "", pid);
		doctor_fix(
			d,
			"let that user and cgroup reach the relay's address, or leave it out of the scope; see 'nft list ruleset', 'iptables -S' and 'bpftool cgroup tree'");
	}
}

static void report_uid_rules(struct doctor *d, const struct observed *seen)
{
	if (!seen->uid_rules)
		return;
	doctor_add(
		d, DOCTOR_WARNING, "policy",
		"%u routing rule%s by user, such as for uid %u to %u: %s for redirected connections by the relay's uid %u, not by the client's",
		seen->uid_rules, seen->uid_rules == 1 ? "" : "s", seen->first_uid, seen->last_uid,
		seen->uid_rules == 1 ? "it decides" : "they decide", seen->relay->uid);
	doctor_fix(d, "see 'ip rule'; leave services of these users out of the scope");
}

/* Returns true if the relay may set SO_MARK, which --pass-mark needs. */
static bool may_mark(const struct tproxy_relay *relay)
{
	const uint64_t any = UINT64_C(1) << CAP_NET_RAW | UINT64_C(1) << CAP_NET_ADMIN;
	uint64_t caps = 0;

	/* A proxy that tproxyctl registered has an alive_ns of 0, and passes no marks on. */
	return relay->alive_ns && process_capabilities((pid_t)relay->pid, &caps) == 0 && caps & any;
}

static void report_mark_rules(struct doctor *d, const struct observed *seen)
{
	if (!seen->mark_rules || may_mark(seen->relay))
		return;
	doctor_add(
		d, DOCTOR_WARNING, "policy",
		"%u routing rule%s by mark, such as fwmark 0x%x: relay %u passes no marks on, so %s not apply to the connections of redirected programs that set it",
		seen->mark_rules, seen->mark_rules == 1 ? "" : "s", seen->mark, seen->relay->pid,
		seen->mark_rules == 1 ? "it does" : "they do");
	doctor_fix(
		d,
		"see 'ip rule'; if programs in the scope set marks, run tproxy-relay with --pass-mark, or leave them out of the scope");
}

static void check_relay(struct doctor *d, const struct tproxy_relay *relay)
{
	_cleanup_close_ int socks_fd = -1, pending_fd = -1;
	struct observed seen = { .relay = relay };

	/* Without these maps, which doctor_pinned() has reported, nothing counts as pending. */
	bpffs_open_map(d->pin_dir, PINNED_SOCKS, /* writable= */ false, &socks_fd);
	bpffs_open_map(d->pin_dir, PINNED_PENDING, /* writable= */ false, &pending_fd);
	seen.socks_fd = socks_fd;
	seen.pending_fd = pending_fd;
	query_sockets(&seen, AF_INET);
	query_sockets(&seen, AF_INET6);
	report_waiting(d, &seen);
	query_rules(&seen, AF_INET);
	query_rules(&seen, AF_INET6);
	report_uid_rules(d, &seen);
	report_mark_rules(d, &seen);
}

void doctor_waiting(struct doctor *d)
{
	_cleanup_free_ struct relays_entry *list = NULL;
	size_t n = 0, i;

	if (!d->loaded || !d->privileged || relays_read_pinned(d->pin_dir, &list, &n) < 0)
		return;
	for (i = 0; i < n; i++)
		check_relay(d, &list[i].relay);
}
