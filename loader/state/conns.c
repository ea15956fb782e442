// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl, for connections and doctor. See conns.h. */
#include "conns.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "bpffs.h"
#include "util.h"

#define BATCH_MAX 4096

int conns_read(const char *pin_dir, struct conns_entry **ret_entries, size_t *ret_n)
{
	_cleanup_free_ struct conns_entry *entries = NULL;
	_cleanup_free_ struct tproxy_conn *conns = NULL;
	_cleanup_free_ __u64 *cookies = NULL;
	_cleanup_close_ int fd = -1;
	/* Where the next batch begins, in the kernel's own form: a bucket's number. */
	__u64 position = 0, *from = NULL;
	size_t n = 0, i;
	__u32 count;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_SOCKS, /* writable= */ false, &fd);
	if (r < 0)
		return r;
	conns = calloc(BATCH_MAX, sizeof(*conns));
	cookies = calloc(BATCH_MAX, sizeof(*cookies));
	entries = calloc(TPROXY_CONNECTIONS_MAX, sizeof(*entries));
	if (!conns || !cookies || !entries)
		return -ENOMEM;
	do {
		count = BATCH_MAX;
		r = bpf_map_lookup_batch(fd, from, &position, cookies, conns, &count, NULL);
		if (r < 0 && r != -ENOENT)
			return r;
		from = &position;
		for (i = 0; i < count && n < TPROXY_CONNECTIONS_MAX; i++, n++)
			entries[n] = (struct conns_entry){ .cookie = cookies[i], .conn = conns[i] };
	} while (r == 0 && n < TPROXY_CONNECTIONS_MAX);
	*ret_entries = TAKE_PTR(entries);
	*ret_n = n;
	return 0;
}

int conns_count(int map_fd, size_t *ret_n)
{
	_cleanup_free_ struct tproxy_conn *conns = calloc(BATCH_MAX, sizeof(*conns));
	_cleanup_free_ __u64 *cookies = calloc(BATCH_MAX, sizeof(*cookies));
	__u64 position = 0, *from = NULL;
	size_t n = 0;
	__u32 count;
	int r;

	if (!conns || !cookies)
		return -ENOMEM;
	do {
		count = BATCH_MAX;
		r = bpf_map_lookup_batch(map_fd, from, &position, cookies, conns, &count, NULL);
		if (r < 0 && r != -ENOENT)
			return r;
		from = &position;
		n += count;
	} while (r == 0);
	*ret_n = n;
	return 0;
}
