// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See block.h. */
#include "block.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define DEVICE "tproxytest0"

struct tproxy_bpf *bed_skel;
int bed_device;
static int passed, failed;

void bed_report(bool ok, const char *what, const char *detail)
{
	if (ok)
		printf("ok %d - %s\n", ++passed + failed, what);
	else
		printf("not ok %d - %s: %s\n", passed + ++failed, what, detail);
}

void bed_expect(const struct place *place, bool ok, const char *what)
{
	char text[128];

	snprintf(text, sizeof(text), "%s: %s", place->name, what);
	bed_report(ok, text, "does not hold");
}

static void read_prefix(const char *address, __u32 n_bits, struct tproxy_prefix *ret)
{
	*ret = (struct tproxy_prefix){ .n_bits = n_bits, .addr = { [10] = 0xff, [11] = 0xff } };
	if (inet_pton(AF_INET, address, &ret->addr[12]) == 1)
		ret->n_bits += 96;
	else
		inet_pton(AF_INET6, address, ret->addr);
}

int bed_trie(int slot, enum tproxy_block_kind kind)
{
	const struct bpf_map *maps[] = { bed_skel->maps.map_block_0, bed_skel->maps.map_allow_0,
					 bed_skel->maps.map_block_1, bed_skel->maps.map_allow_1 };

	return bpf_map__fd(maps[TPROXY_BLOCK_TRIE(slot, kind)]);
}

void bed_add(int slot, enum tproxy_block_kind kind, const char *address, __u32 n_bits,
	     __u64 ends_ns)
{
	struct tproxy_prefix key;
	struct tproxy_block_entry entry = { .ends_ns = ends_ns };

	read_prefix(address, n_bits, &key);
	entry.n_bits = key.n_bits;
	if (bpf_map_update_elem(bed_trie(slot, kind), &key, &entry, BPF_ANY) < 0)
		bed_report(false, address, strerror(errno));
}

void bed_delete(int slot, enum tproxy_block_kind kind, const char *address, __u32 n_bits)
{
	struct tproxy_prefix key;

	read_prefix(address, n_bits, &key);
	bpf_map_delete_elem(bed_trie(slot, kind), &key);
}

struct tproxy_block_entry bed_entry(enum tproxy_block_kind kind, const char *address)
{
	struct tproxy_block_entry entry = {};
	struct tproxy_prefix key;

	read_prefix(address, strchr(address, ':') ? 128 : 32, &key);
	bpf_map_lookup_elem(bed_trie(0, kind), &key, &entry);
	return entry;
}

void bed_set_state_of(__u32 state, __u32 changes)
{
	const struct tproxy_block block = { .state = state, .changes = changes };
	const __u32 key = 0;

	bpf_map_update_elem(bpf_map__fd(bed_skel->maps.map_block), &key, &block, BPF_ANY);
}

void bed_set_state(__u32 state)
{
	bed_set_state_of(state, 0);
}

struct tproxy_block_stat bed_read_stat(enum tproxy_place place)
{
	const int n = libbpf_num_possible_cpus();
	_cleanup_free_ struct tproxy_block_stat *values = calloc((size_t)n, sizeof(*values));
	struct tproxy_block_stat sum = {};
	const __u32 key = place;
	int i;

	if (!values)
		return sum;
	bpf_map_lookup_elem(bpf_map__fd(bed_skel->maps.map_block_stats), &key, values);
	for (i = 0; i < n; i++) {
		sum.seen += values[i].seen;
		sum.dropped += values[i].dropped;
		sum.dropped_bytes += values[i].dropped_bytes;
		sum.invalid += values[i].invalid;
		sum.allowed += values[i].allowed;
		sum.control += values[i].control;
	}
	return sum;
}

int bed_run(const struct place *place, const void *bytes, size_t size, int ifindex, __u32 gso_segs,
	    int repeat, struct bpf_test_run_opts *opts)
{
	struct xdp_md md = { .data_end = (__u32)size, .ingress_ifindex = (__u32)ifindex };
	struct __sk_buff skb = { .ifindex = (__u32)ifindex, .gso_segs = gso_segs };
	const bool xdp = place->place == TPROXY_PLACE_XDP;

	*opts = (struct bpf_test_run_opts){
		.sz = sizeof(*opts),
		.data_in = bytes,
		.data_size_in = (__u32)size,
		.ctx_in = xdp ? (void *)&md : (void *)&skb,
		.ctx_size_in = xdp ? sizeof(md) : sizeof(skb),
		.repeat = repeat,
	};
	return bpf_prog_test_run_opts(bpf_program__fd(place->prog), opts);
}

bool bed_drops(const struct place *place, const void *bytes, size_t size, int *ret_error)
{
	struct bpf_test_run_opts opts;

	*ret_error = bed_run(place, bytes, size, bed_device, 0, 1, &opts);
	if (*ret_error < 0)
		return false;
	if (place->place == TPROXY_PLACE_XDP)
		return opts.retval == XDP_DROP;
	if (opts.retval > 1)
		*ret_error = -ERANGE;
	return opts.retval == 0;
}

static int open_device(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	if (system("ip link add " DEVICE " type veth peer name tproxytest1") != 0)
		return -ENODEV;
	bed_device = (int)if_nametoindex(DEVICE);
	return bed_device > 1 ? 0 : -ENODEV;
}

static int open_programs(void)
{
	struct bpf_program *prog;

	bed_skel = tproxy_bpf__open();
	if (!bed_skel)
		return -errno;
	bpf_object__for_each_program(prog, bed_skel->obj)
	{
		bpf_program__set_autoload(prog, prog == bed_skel->progs.tproxy_block_in ||
							prog == bed_skel->progs.tproxy_block_out ||
							prog == bed_skel->progs.tproxy_xdp);
	}
	return tproxy_bpf__load(bed_skel);
}

int bed_open(void)
{
	const int r = open_device();

	return r < 0 ? r : open_programs();
}

bool bed_close(void)
{
	tproxy_bpf__destroy(bed_skel);
	if (passed + failed > 0)
		printf("%d passed, %d failed\n", passed, failed);
	return failed == 0;
}
