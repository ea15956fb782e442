// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl and tproxy-load, for status and doctor. See honest.h. */
#include "honest.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "bpffs.h"
#include "monotonic.h"
#include "util.h"

static int read_listeners(const char *pin_dir, struct honest *honest)
{
	_cleanup_close_ int fd = -1;
	__u64 key, *prev = NULL;
	size_t i;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_LISTENERS, /* writable= */ false, &fd);
	if (r < 0)
		return r;
	honest->listeners = calloc(TPROXY_LISTENERS_MAX, sizeof(*honest->listeners));
	if (!honest->listeners)
		return -ENOMEM;
	/* Bounded: the walk starts again if its key is deleted meanwhile. */
	for (i = 0; i < TPROXY_LISTENERS_MAX && bpf_map_get_next_key(fd, prev, &key) == 0; i++) {
		if (bpf_map_lookup_elem(fd, &key, &honest->listeners[honest->n_listeners]) == 0)
			honest->n_listeners++;
		prev = &key;
	}
	return 0;
}

static int count_rings(const char *pin_dir, struct honest *honest)
{
	const uint64_t now = monotonic_kernel_ns();
	struct tproxy_ring ring;
	_cleanup_close_ int fd = -1;
	__u32 i;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_RING_OWNERS, /* writable= */ false, &fd);
	for (i = 0; i < TPROXY_RINGS_MAX && r == 0; i++) {
		r = bpf_map_lookup_elem(fd, &i, &ring);
		if (r == 0 && ring.owner && now < ring.alive_ns + TPROXY_STALE_NS)
			honest->n_rings_used++;
	}
	return r;
}

int honest_read(const char *pin_dir, struct honest *ret_honest)
{
	int r;

	*ret_honest = (struct honest){};
	r = read_listeners(pin_dir, ret_honest);
	return r < 0 ? r : count_rings(pin_dir, ret_honest);
}

void honest_finish(struct honest *honest)
{
	free(honest->listeners);
	*honest = (struct honest){};
}

uint32_t honest_flags(const struct honest *honest, uint64_t netns_cookie)
{
	uint32_t flags = 0;
	size_t i;

	for (i = 0; i < honest->n_listeners; i++) {
		if (!netns_cookie || honest->listeners[i].netns_cookie == netns_cookie)
			flags |= honest->listeners[i].flags;
	}
	return flags;
}

const char *honest_name(uint32_t flags)
{
	if (!(flags & TPROXY_LISTENER_CAPABLE))
		return "no";
	return flags & TPROXY_LISTENER_DEFAULT ? "default" : "on-request";
}
