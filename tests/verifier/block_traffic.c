// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The traffic of cgroups, which the hooks count if they are asked to. */
#include "block.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdlib.h>

#include "util.h"

static struct tproxy_traffic read_traffic(__u64 cgroup_id)
{
	const int n = libbpf_num_possible_cpus();
	_cleanup_free_ struct tproxy_traffic *values = calloc((size_t)n, sizeof(*values));
	struct tproxy_traffic sum = {};
	int i;

	if (!values ||
	    bpf_map_lookup_elem(bpf_map__fd(bed_skel->maps.map_traffic), &cgroup_id, values) < 0)
		return sum;
	for (i = 0; i < n; i++) {
		sum.packets_in += values[i].packets_in;
		sum.packets_out += values[i].packets_out;
		sum.bytes_in += values[i].bytes_in;
		sum.bytes_out += values[i].bytes_out;
	}
	return sum;
}

/* Returns the id of the only cgroup that was counted: that of the test's socket. */
static __u64 counted_cgroup(void)
{
	const int fd = bpf_map__fd(bed_skel->maps.map_traffic);
	__u64 id = 0;

	return bpf_map_get_next_key(fd, NULL, &id) < 0 ? 0 : id;
}

void traffic_check(const struct place *in, const struct place *out)
{
	const size_t size = sizeof(from_good) - 1 - PACKET_ETH_LEN;
	struct tproxy_traffic traffic;
	int error;
	__u64 id;

	id = counted_cgroup(); /* by check_states() */
	bpf_map_delete_elem(bpf_map__fd(bed_skel->maps.map_traffic), &id);
	bed_set_state(TPROXY_BLOCK_ENTRIES);
	DROPS(in, from_good);
	bed_expect(in, counted_cgroup() == 0, "no traffic is counted unless asked for");
	bed_set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_TRAFFIC);
	DROPS(in, from_good);
	DROPS(out, from_good);
	DROPS(out, from_good);
	DROPS(in, from_bad);
	DROPS(out, from_bad);
	id = counted_cgroup();
	traffic = read_traffic(id);
	bed_expect(in, traffic.packets_in == 1 && traffic.bytes_in == size,
		   "traffic in is counted, without what is dropped");
	bed_expect(out, traffic.packets_out == 2 && traffic.bytes_out == 2 * size,
		   "traffic out is counted, without what is dropped");
	bed_set_state(TPROXY_BLOCK_TRAFFIC);
	DROPS(in, from_bad);
	traffic = read_traffic(id);
	bed_expect(in, traffic.packets_in == 2, "without a list all traffic is counted");
}
