// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl explain. See listener_mark.h. The program gets the address behind the Ethernet header
 * of its packet, as a struct bpf_sock_tuple whose source is 0. is_our_listener() in
 * bpf/target.bpf.h makes the same call. BPF_PROG_RUN cannot run a program of type connect,
 * so this program is of type tc. Its lookup is made at lo, whereas the lookup of connect has no
 * device. A socket that is bound to a device does not count as found.
 */
#include "listener_mark.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stddef.h>
#include <string.h>

#include "host/address.h"
#include "host/insn.h"
#include "util.h"

#define TUPLE_MAX ((int)sizeof(struct bpf_sock_tuple))

static int tuple_size(enum tproxy_family family)
{
	const struct bpf_sock_tuple *tuple = NULL;

	return family == TPROXY_INET ? (int)sizeof(tuple->ipv4) : (int)sizeof(tuple->ipv6);
}

/* Returns a descriptor or -errno. */
static int load(enum tproxy_family family, int marks_fd)
{
	const int size = tuple_size(family);
	const struct bpf_insn insns[] = {
		MOV(BPF_REG_6, BPF_REG_1), /* the context */
		SET(BPF_REG_8, 0),	   /* the result */
		/* Copy the tuple from the packet to the stack. */
		SET(BPF_REG_2, ETH_HLEN),
		MOV(BPF_REG_3, BPF_REG_10),
		ADD(BPF_REG_3, -TUPLE_MAX),
		SET(BPF_REG_4, size),
		CALL(BPF_FUNC_skb_load_bytes),
		JUMP_NOT_0(BPF_REG_0, 21),
		MOV(BPF_REG_1, BPF_REG_6),
		MOV(BPF_REG_2, BPF_REG_10),
		ADD(BPF_REG_2, -TUPLE_MAX),
		SET(BPF_REG_3, size),
		SET(BPF_REG_4, BPF_F_CURRENT_NETNS),
		SET(BPF_REG_5, 0),
		CALL(BPF_FUNC_sk_lookup_tcp),
		JUMP_0(BPF_REG_0, 13),
		MOV(BPF_REG_7, BPF_REG_0),
		LOAD32(BPF_REG_1, BPF_REG_7, offsetof(struct bpf_sock, bound_dev_if)),
		JUMP_NOT_0(BPF_REG_1, 8),
		INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, marks_fd),
		INSN(0, 0, 0, 0, 0),
		MOV(BPF_REG_2, BPF_REG_7),
		SET(BPF_REG_3, 0),
		SET(BPF_REG_4, 0),
		CALL(BPF_FUNC_sk_storage_get),
		JUMP_0(BPF_REG_0, 1),
		LOAD32(BPF_REG_8, BPF_REG_0, offsetof(struct tproxy_mark, flags)),
		MOV(BPF_REG_1, BPF_REG_7),
		CALL(BPF_FUNC_sk_release),
		MOV(BPF_REG_0, BPF_REG_8),
		EXIT,
	};

	return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "tproxy_mark", "Dual BSD/GPL", insns,
			     ARRAY_SIZE(insns), NULL);
}

int listener_mark_read(struct listener_mark *programs, int marks_fd,
		       const struct tproxy_endpoint *ep, __u32 *ret_flags)
{
	enum tproxy_family family = address_is_ipv4(ep->addr) ? TPROXY_INET : TPROXY_INET6;
	char packet[ETH_HLEN + sizeof(struct bpf_sock_tuple)] = { [12] = 0x08 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet));
	struct bpf_sock_tuple tuple = {};
	int r;

	if (family == TPROXY_INET) {
		memcpy(&tuple.ipv4.daddr, &ep->addr[12], sizeof(tuple.ipv4.daddr));
		tuple.ipv4.dport = htons(ep->port);
	} else {
		memcpy(tuple.ipv6.daddr, ep->addr, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.dport = htons(ep->port);
	}
	memcpy(packet + ETH_HLEN, &tuple, sizeof(tuple));
	if (programs->fds[family] < 0) {
		r = load(family, marks_fd);
		if (r < 0)
			return r;
		programs->fds[family] = r;
	}
	r = bpf_prog_test_run_opts(programs->fds[family], &opts);
	if (r < 0)
		return r;
	*ret_flags = opts.retval;
	return 0;
}

void listener_mark_close(struct listener_mark *programs)
{
	util_closep(&programs->fds[TPROXY_INET]);
	util_closep(&programs->fds[TPROXY_INET6]);
}
