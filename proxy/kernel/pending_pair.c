// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The pairs of listeners of pending.h. */
#include "pending.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <sys/socket.h>

#include "parse.h"
#include "pending_maps.h"

static bool pair_is_free(const struct pending_maps *maps, uint32_t pair)
{
	const __u32 real = TPROXY_PAIR_REAL(pair), sink = TPROXY_PAIR_SINK(pair);
	__u64 cookie;

	return bpf_map_lookup_elem(maps->pairs_fd, &real, &cookie) == -ENOENT &&
	       bpf_map_lookup_elem(maps->pairs_fd, &sink, &cookie) == -ENOENT;
}

int pending_pair_choose(struct pending_maps *maps, const struct pending_ring *ring,
			uint32_t *ret_pair)
{
	const uint32_t first = TPROXY_PAIR_FIRST(ring->index);
	uint32_t i;

	/* The kernel empties an entry when its socket is closed. */
	for (i = 0; i < TPROXY_PAIRS_OF_RING; i++) {
		if (pair_is_free(maps, first + i)) {
			*ret_pair = first + i;
			return 0;
		}
	}
	return -ENOSPC;
}

static int set_pair(const struct pending_maps *maps, __u32 key, int fd)
{
	__u64 value = (__u64)fd;

	return bpf_map_update_elem(maps->pairs_fd, &key, &value, BPF_NOEXIST);
}

int pending_pair_add(struct pending_maps *maps, uint32_t pair, int real_fd, int sink_fd)
{
	int r;

	if (setsockopt(real_fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &maps->program_fd,
		       sizeof(maps->program_fd)) < 0)
		return -errno;
	r = set_pair(maps, TPROXY_PAIR_REAL(pair), real_fd);
	if (r == 0)
		r = set_pair(maps, TPROXY_PAIR_SINK(pair), sink_fd);
	if (r < 0)
		return r;
	return pending_pair_adopt(maps, pair, real_fd) ? 0 : -ENOENT;
}

struct pending_ring *pending_pair_adopt(struct pending_maps *maps, uint32_t pair, int real_fd)
{
	union sockaddr_any addr = {};
	socklen_t len = sizeof(addr);
	uint32_t i;

	for (i = 0; i < maps->n_rings; i++) {
		struct pending_ring *ring = maps->rings[i];

		if (pair / TPROXY_PAIRS_OF_RING != ring->index)
			continue;
		if (getsockname(real_fd, &addr.sa, &len) < 0)
			return NULL;
		ring->ports[pair % TPROXY_PAIRS_OF_RING] = ntohs(addr.in.sin_port);
		return ring;
	}
	return NULL;
}
