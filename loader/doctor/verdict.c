// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl doctor. See verdict.h. */
#include "verdict.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "host/address.h"
#include "util.h"

/* A port of the range from which the kernel chooses source ports. */
#define EPHEMERAL_PORT 40000
#define MAPS_MAX       16
/* How many keys of each trie are used. */
#define KEYS_MAX 32

struct packet4 {
	struct ether_header eth;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

struct packet6 {
	struct ether_header eth;
	struct ip6_hdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

static struct tcphdr handshake(bool egress, __u16 port)
{
	return (struct tcphdr){
		.source = htons(egress ? EPHEMERAL_PORT : port),
		.dest = htons(egress ? port : EPHEMERAL_PORT),
		.doff = sizeof(struct tcphdr) / 4,
		.syn = 1,
		.ack = !egress,
		.window = htons(64240),
	};
}

/* Makes an IPv4 packet. Its local address does not matter: a filter looks at the remote one. */
static size_t make4(struct packet4 *p, bool egress, const struct tproxy_endpoint *remote)
{
	static const __u8 somewhere[4] = { 198, 18, 0, 1 };
	const __u8 *theirs = remote->addr + 12;
	const __u8 *ours = address_is_loopback(remote->addr) ? theirs : somewhere;

	*p = (struct packet4){
		.eth.ether_type = htons(ETHERTYPE_IP),
		.ip = { .version = 4,
			.ihl = sizeof(struct iphdr) / 4,
			.tot_len = htons(sizeof(*p) - sizeof(p->eth)),
			.ttl = 64,
			.protocol = IPPROTO_TCP },
		.tcp = handshake(egress, remote->port),
	};
	memcpy(&p->ip.saddr, egress ? ours : theirs, 4);
	memcpy(&p->ip.daddr, egress ? theirs : ours, 4);
	return sizeof(*p);
}

static size_t make6(struct packet6 *p, bool egress, const struct tproxy_endpoint *remote)
{
	static const __u8 somewhere[16] = { 0x20, 0x01, 0x00, 0x02, [15] = 1 };
	const __u8 *ours = address_is_loopback(remote->addr) ? remote->addr : somewhere;

	*p = (struct packet6){
		.eth.ether_type = htons(ETHERTYPE_IPV6),
		.ip.ip6_flow = htonl(6u << 28),
		.ip.ip6_plen = htons(sizeof(p->tcp)),
		.ip.ip6_nxt = IPPROTO_TCP,
		.ip.ip6_hlim = 64,
		.tcp = handshake(egress, remote->port),
	};
	memcpy(&p->ip.ip6_src, egress ? ours : remote->addr, 16);
	memcpy(&p->ip.ip6_dst, egress ? remote->addr : ours, 16);
	return sizeof(*p);
}

int verdict_run(int prog_fd, bool egress, const struct tproxy_endpoint *remote,
		unsigned int ifindex)
{
	struct __sk_buff ctx = { .ifindex = ifindex };
	union {
		struct packet4 v4;
		struct packet6 v6;
	} packet;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = &packet, .repeat = 1);
	int r;

	opts.data_size_in =
		(__u32)(address_is_ipv4(remote->addr) ? make4(&packet.v4, egress, remote)
						      : make6(&packet.v6, egress, remote));
	if (ifindex) {
		opts.ctx_in = &ctx;
		opts.ctx_size_in = sizeof(ctx);
	}
	r = bpf_prog_test_run_opts(prog_fd, &opts);
	/* The second bit is about congestion, not about the verdict. */
	return r < 0 ? r : (int)(opts.retval & 1);
}

static void add(struct verdict_samples *to, const struct tproxy_endpoint *ep)
{
	size_t i;

	for (i = 0; i < to->n; i++) {
		if (memcmp(to->ep[i].addr, ep->addr, sizeof(ep->addr)) == 0)
			return;
	}
	if (to->n < VERDICT_SAMPLES_MAX && !address_is_loopback(ep->addr))
		to->ep[to->n++] = *ep;
}

void verdict_add_usual(struct verdict_samples *to)
{
	static const char *const texts[] = {
		"::ffff:192.0.2.1",   "::ffff:198.51.100.1",
		"::ffff:203.0.113.1", "::ffff:10.0.0.1",
		"::ffff:172.16.0.1",  "::ffff:192.168.0.1",
		"::ffff:192.88.99.1", "2001:db8::1",
		"2620:4f:8000::1",    "fd00::1",
	};
	struct tproxy_endpoint ep = { .port = 443 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		inet_pton(AF_INET6, texts[i], ep.addr);
		add(to, &ep);
	}
}

/* Adds the keys of a trie. A key is the length of the prefix, then the network: 4 or 16 bytes. */
static void add_of_trie(struct verdict_samples *to, int map_fd, size_t address_len)
{
	struct {
		__u32 prefix_len;
		__u8 addr[16];
	} key, *prev = NULL;
	int n;

	for (n = 0; n < KEYS_MAX && bpf_map_get_next_key(map_fd, prev, &key) == 0; n++) {
		struct tproxy_endpoint ep = { .port = 443 };

		prev = &key;
		if (address_len == 4)
			address_map4(ep.addr, key.addr);
		else
			memcpy(ep.addr, key.addr, sizeof(ep.addr));
		if (key.prefix_len > 0) /* 0 matches every address */
			add(to, &ep);
	}
}

void verdict_add_of_program(struct verdict_samples *to, int prog_fd)
{
	__u32 ids[MAPS_MAX] = {}, i;
	struct bpf_prog_info info = { .nr_map_ids = MAPS_MAX, .map_ids = (uintptr_t)ids };
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(prog_fd, &info, &len) < 0)
		return;
	for (i = 0; i < info.nr_map_ids && i < MAPS_MAX; i++) {
		_cleanup_close_ int fd = bpf_map_get_fd_by_id(ids[i]);
		struct bpf_map_info map = {};

		len = sizeof(map);
		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &map, &len) < 0 ||
		    map.type != BPF_MAP_TYPE_LPM_TRIE ||
		    (map.key_size != sizeof(__u32) + 4 && map.key_size != sizeof(__u32) + 16))
			continue;
		add_of_trie(to, fd, map.key_size - sizeof(__u32));
	}
}
