// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See live.h. The number of connections that are read is limited, because the main thread reads
 * them and has other work: the iterator takes 2 to 4 µs for each.
 *
 * The list has the connections of the relay's network namespace, and the number of all. If there
 * are others, they are read from the maps, without the numbers of their sockets: entering another
 * namespace takes root.
 *
 * A first line that is not our header is that of another version of the programs; then the maps are
 * read. Without BPF_MAP_LOOKUP_BATCH the maps would take a system call for each connection.
 */
#include "live.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "monotonic.h"
#include "observed_entries.h"
#include "tproxy_abi.h"
#include "util.h"

#define BATCH_MAX 1024

/* --- the iterator */

/* Reads a line without its newline. Returns false at the end, or after an error. */
static bool read_line(FILE *file, char line[CONN_ROW_LINE_MAX])
{
	if (!fgets(line, CONN_ROW_LINE_MAX, file))
		return false;
	line[strcspn(line, "\n")] = '\0';
	return true;
}

/* *ret_total: connections of all network namespaces, 0 if the list was not read to its end. */
static int read_list(const char *pin_dir, size_t most, struct live *live, uint64_t *ret_total)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[PATH_MAX], line[CONN_ROW_LINE_MAX];
	int n = snprintf(path, sizeof(path), "%s/" PINNED_LIST, pin_dir);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	file = fopen(path, "re");
	if (!file)
		return -errno;
	if (!read_line(file, line) || strcmp(line, CONN_ROW_HEADER) != 0)
		return -EPROTO;
	while (read_line(file, line)) {
		if (sscanf(line, "# total in all network namespaces: %" SCNu64, ret_total) == 1)
			break;
		if (live->n == most) {
			live->more = true;
			break;
		}
		if (conn_row_parse(line, &live->rows[live->n]) == 0)
			live->n++;
	}
	return ferror(file) ? -EIO : 0;
}

/* --- the maps */

/* Reads map_socks, without connections of the network namespace @but, unless it is 0. */
static int read_socks(const char *pin_dir, uint64_t but, size_t most, struct live *live)
{
	_cleanup_free_ __u64 *cookies = calloc(BATCH_MAX, sizeof(*cookies));
	_cleanup_free_ struct tproxy_conn *conns = calloc(BATCH_MAX, sizeof(*conns));
	const uint64_t now_ns = monotonic_kernel_ns();
	/* Where the next batch begins, in the kernel's own form: a bucket's number. */
	__u64 position = 0, *from = NULL;
	_cleanup_close_ int fd = -1;
	__u32 count, i;
	int r;

	if (!cookies || !conns)
		return -ENOMEM;
	r = bpffs_open_map(pin_dir, PINNED_SOCKS, /* writable= */ false, &fd);
	while (r == 0) {
		count = BATCH_MAX;
		r = bpf_map_lookup_batch(fd, from, &position, cookies, conns, &count, NULL);
		if (r < 0 && r != -ENOENT)
			return r;
		from = &position;
		for (i = 0; i < count && live->n < most; i++) {
			conn_row_of_redirected(cookies[i], &conns[i], now_ns, &live->rows[live->n]);
			live->n += !but || live->rows[live->n].netns_cookie != but;
		}
		live->more |= i < count;
		if (live->n == most)
			return 0;
	}
	return r == -ENOENT && from ? 0 : r;
}

struct observed_read {
	uint64_t but, now_ns;
	size_t most;
	struct live *live;
};

/* Returns 1 if there is no more room. */
static int add_observed(uint64_t cookie, const struct tproxy_observed *conn, void *data)
{
	const struct observed_read *read = data;
	struct live *live = read->live;

	if (live->n == read->most) {
		live->more = true;
		return 1;
	}
	conn_row_of_observed(cookie, conn, read->now_ns, &live->rows[live->n]);
	live->n += !read->but || live->rows[live->n].netns_cookie != read->but;
	return 0;
}

static int read_maps(const char *pin_dir, uint64_t but, size_t most, struct live *live)
{
	struct observed_read read = {
		.but = but,
		.now_ns = monotonic_kernel_ns(),
		.most = most,
		.live = live,
	};
	int r = read_socks(pin_dir, but, most, live);

	if (r == 0)
		r = observed_entries_walk_pinned(pin_dir, add_observed, &read);
	return r < 0 ? r : 0;
}

int live_read(const char *pin_dir, uint64_t netns_cookie, size_t most, struct live *ret_live)
{
	struct live live = { .rows = calloc(most, sizeof(*live.rows)) };
	uint64_t total = 0;
	int r;

	if (!live.rows)
		return -ENOMEM;
	r = read_list(pin_dir, most, &live, &total);
	if (r < 0) {
		live.n = 0;
		r = read_maps(pin_dir, /* but= */ 0, most, &live);
	} else if (total > live.n) {
		read_maps(pin_dir, netns_cookie, most, &live);
	}
	if (r < 0)
		live_finish(&live);
	else
		*ret_live = live;
	return r;
}

void live_finish(struct live *live)
{
	free(live->rows);
	*live = (struct live){};
}
