// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See pending_maps.h. */
#include "pending_maps.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"

size_t pending_page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

void pending_unmap(const void *memory, size_t size)
{
	const size_t page = pending_page_size();

	if (memory)
		munmap((void *)memory, (size + page - 1) / page * page);
}

int pending_open_pin(const char *pin_dir, const char *name, uint32_t flags)
{
	LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = flags);
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", pin_dir, name);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return bpf_obj_get_opts(path, &opts);
}

void pending_ring_close(struct pending_ring *ring)
{
	pending_unmap(ring->consumer_page, pending_page_size());
	pending_unmap(ring->pages, pending_page_size() + 2 * (size_t)ring->size);
	util_closep(&ring->fd);
	free(ring);
}
