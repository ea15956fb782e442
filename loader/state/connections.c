// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl: the live connections, see connections.h.
 *
 * The iterator prints lines, of which one read(2) may end anywhere. getline(3) puts them together.
 * If the first line is not our header, another version of the programs is pinned, and the maps are
 * read. So they are if the pin is missing or may not be opened.
 */
#include "connections.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "conns.h"
#include "monotonic.h"
#include "objects.h"
#include "rules_view.h"
#include "tproxy_abi.h"
#include "util.h"

#define NSEC_PER_MSEC 1000000
#define BATCH_MAX     4096

static FILE *open_list(const char *pin_dir)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/" PINNED_LIST, pin_dir);

	if (n >= 0 && (size_t)n < sizeof(path))
		return fopen(path, "re");
	errno = ENAMETOOLONG;
	return NULL;
}

/* Reads a line, without its newline. Returns 1, 0 at the end, or -errno. */
static int read_line(FILE *file, char **line, size_t *size)
{
	ssize_t len;

	errno = 0;
	len = getline(line, size, file);
	if (len < 0)
		return ferror(file) ? -(errno ? errno : EIO) : 0;
	if ((*line)[len - 1] == '\n')
		(*line)[len - 1] = '\0';
	return 1;
}

/* Returns 1 if the first line is our header, or 0 or -errno if the list cannot be read. */
static int read_header(FILE *file, char **line, size_t *size)
{
	int r = read_line(file, line, size);

	return r == 1 && strcmp(*line, CONN_ROW_HEADER) != 0 ? -EPROTO : r;
}

/*
 * Reads the iterator. Returns as connections_read(). *ret_began tells whether it could be read: the
 * maps can be read instead until then.
 */
static int read_list(const char *pin_dir, connections_fn fn, void *data, bool *ret_began)
{
	_cleanup_fclose_ FILE *file = open_list(pin_dir);
	_cleanup_free_ char *line = NULL;
	struct conn_row row;
	size_t size = 0;
	int r;

	*ret_began = false;
	if (!file)
		return -errno;
	r = read_header(file, &line, &size);
	if (r <= 0)
		return r < 0 ? r : -ENODATA;
	*ret_began = true;
	while ((r = read_line(file, &line, &size)) > 0) {
		r = conn_row_parse(line, &row);
		r = r < 0 ? -EBADMSG : fn(&row, data);
		if (r)
			return r;
	}
	return r;
}

static uint64_t age_ms(uint64_t started_ns, uint64_t now_ns)
{
	return now_ns > started_ns ? (now_ns - started_ns) / NSEC_PER_MSEC : 0;
}

static int read_redirected(const char *pin_dir, connections_fn fn, void *data)
{
	_cleanup_free_ struct conns_entry *entries = NULL;
	const uint64_t now_ns = monotonic_kernel_ns();
	size_t n = 0, i;
	int r;

	r = conns_read(pin_dir, &entries, &n);
	for (i = 0; i < n && r == 0; i++) {
		const struct tproxy_conn *conn = &entries[i].conn;
		struct conn_row row = {
			.id = entries[i].cookie,
			.cgroup_id = conn->cgroup_id,
			.netns_cookie = conn->netns_cookie,
			.age_ms = age_ms(conn->started_ns, now_ns),
			.pid = conn->pid,
			.uid = conn->uid,
			.verdict = CONN_REDIRECTED,
			.src = conn->src,
			.dst = conn->dst,
		};

		memcpy(row.comm, conn->comm, sizeof(conn->comm));
		r = fn(&row, data);
	}
	return r;
}

static void set_rule(int texts_fd, uint32_t counter, struct conn_row *row)
{
	struct tproxy_rule_text text;

	if (texts_fd < 0 || rules_view_rule_text(texts_fd, counter, &text) < 0 || !text.generation)
		return;
	if (*text.name)
		snprintf(row->rule, sizeof(row->rule), "%s", text.name);
	else if (text.line)
		snprintf(row->rule, sizeof(row->rule), "line:%u", text.line);
	else
		strcpy(row->rule, "default");
}

static int pass_observed(uint64_t cookie, const struct tproxy_observed *conn, int texts_fd,
			 connections_fn fn, void *data)
{
	struct conn_row row = {
		.id = cookie,
		.cgroup_id = conn->cgroup_id,
		.netns_cookie = conn->netns_cookie,
		.age_ms = age_ms(conn->started_ns, monotonic_kernel_ns()),
		.pid = conn->pid,
		.uid = conn->uid,
		.verdict = CONN_OBSERVED,
		.src = conn->src,
		.dst = conn->dst,
	};

	if (!(conn->flags & TPROXY_OBSERVED_SENT))
		return 0;
	memcpy(row.comm, conn->comm, sizeof(conn->comm));
	set_rule(texts_fd, conn->rule_counter, &row);
	return fn(&row, data);
}

static int read_observed(const char *pin_dir, connections_fn fn, void *data)
{
	_cleanup_free_ struct tproxy_observed *conns = NULL;
	_cleanup_free_ __u64 *cookies = NULL;
	_cleanup_close_ int fd = -1, texts_fd = -1;
	/* In the kernel's own form: the number of a bucket. */
	__u64 position = 0, *from = NULL;
	__u32 count, i;
	int r, done = 0;

	r = bpffs_open_map(pin_dir, PINNED_OBSERVED, /* writable= */ false, &fd);
	if (r < 0)
		return r;
	bpffs_open_map(pin_dir, PINNED_RULE_TEXTS, /* writable= */ false, &texts_fd);
	conns = calloc(BATCH_MAX, sizeof(*conns));
	cookies = calloc(BATCH_MAX, sizeof(*cookies));
	if (!conns || !cookies)
		return -ENOMEM;
	do {
		count = BATCH_MAX;
		r = bpf_map_lookup_batch(fd, from, &position, cookies, conns, &count, NULL);
		if (r < 0 && r != -ENOENT)
			return r;
		from = &position;
		for (i = 0; i < count && done == 0; i++)
			done = pass_observed(cookies[i], &conns[i], texts_fd, fn, data);
	} while (r == 0 && done == 0);
	return done;
}

int connections_read(const char *pin_dir, connections_fn fn, void *data,
		     enum connections_source *ret_source)
{
	bool began;
	int r;

	r = read_list(pin_dir, fn, data, &began);
	if (ret_source)
		*ret_source = began ? CONNECTIONS_LIVE : CONNECTIONS_MAPS;
	if (began)
		return r;
	r = read_redirected(pin_dir, fn, data);
	if (r)
		return r;
	r = read_observed(pin_dir, fn, data);
	/* Pins of an earlier load may lack map_observed, and its mode may exclude this user. */
	return r == -ENOENT || r == -EACCES || r == -EPERM ? 0 : r;
}

static int stop(const struct conn_row *row, void *data)
{
	return 1;
}

const char *connections_why_maps(const char *pin_dir)
{
	bool began;
	int r = read_list(pin_dir, stop, NULL, &began);

	if (r == -ENOENT)
		return "the load found no support for the pinned list in this kernel";
	if (r == -EACCES || r == -EPERM)
		return "the pinned list may not be read by this user";
	if (r == -EPROTO || r == -EINVAL)
		return "another version has pinned the list";
	return strerror(r < 0 ? -r : EIO);
}
