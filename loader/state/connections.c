// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl: the live connections, see connections.h.
 *
 * The maps say which connections there are, in all network namespaces. The iterator sees the
 * sockets of the namespace in which its file was opened. So the list is read here, then in each
 * other namespace that has connections and can be entered, which takes root. Connections of the
 * remaining ones come from the maps, without the numbers of their sockets.
 *
 * A connection of a namespace that was visited, which is in the maps and not in the list, has ended
 * meanwhile. Entries that other programs than tproxy's wrote belong to no namespace.
 *
 * The list has ages in milliseconds, each as of the moment of its line. The maps have the time of
 * each connect(), which orders connections in the same way in each reading.
 *
 * One read(2) of the list may end anywhere; getline(3) puts the lines together. If the first line
 * is not our header, another version is pinned, and the maps alone are used.
 */
#include "connections.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpffs.h"
#include "conns.h"
#include "host/netns_tour.h"
#include "monotonic.h"
#include "objects.h"
#include "observed_entries.h"
#include "rules_view.h"
#include "tproxy_abi.h"
#include "util.h"

#define NSEC_PER_MSEC 1000000

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

/* Opens the list of this namespace, and reads its header. Returns 0 or -errno. */
static int open_list(const char *pin_dir, FILE **ret_file)
{
	_cleanup_fclose_ FILE *file = NULL;
	_cleanup_free_ char *line = NULL;
	char path[PATH_MAX];
	size_t size = 0;
	int n, r;

	n = snprintf(path, sizeof(path), "%s/" PINNED_LIST, pin_dir);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	file = fopen(path, "re");
	if (!file)
		return -errno;
	r = read_line(file, &line, &size);
	if (r < 0)
		return r;
	if (r == 0 || strcmp(line, CONN_ROW_HEADER) != 0)
		return -EPROTO;
	*ret_file = TAKE_PTR(file);
	return 0;
}

/* When a connection of the maps began. */
struct beginning {
	uint64_t id, started_ns;
};

/* The namespaces whose list was read, and those that are still wanted. */
struct visits {
	const char *pin_dir;
	connections_fn fn;
	void *data;
	uint64_t *wanted; /* cookies, sorted */
	bool *visited;	  /* the list of wanted[i] was read */
	size_t n, n_left;
	struct beginning *beginnings; /* sorted by id */
	size_t n_beginnings;
	int result; /* of @fn, or an error after the first line */
};

/* Compares members that are the first of their struct. */
static int by_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Passes a row of the list, with the time of its connect(). */
static int pass_row(struct visits *visits, struct conn_row *row)
{
	const struct beginning *found =
		bsearch(&row->id, visits->beginnings, visits->n_beginnings, sizeof(*found), by_u64);

	/* Not in the snapshot: it has just begun, or this user may not read the maps of observed
	 * ones. */
	row->started_ns =
		found ? found->started_ns : monotonic_kernel_ns() - row->age_ms * NSEC_PER_MSEC;
	return visits->fn(row, visits->data);
}

/*
 * Passes the lines of a list, whose header was read. Returns 0, the result of visits->fn or -errno.
 * A line that begins with '#' is a comment.
 */
static int pass_list(FILE *file, struct visits *visits)
{
	_cleanup_free_ char *line = NULL;
	struct conn_row row;
	size_t size = 0;
	int r;

	while ((r = read_line(file, &line, &size)) > 0) {
		if (*line == '#')
			continue;
		r = conn_row_parse(line, &row) < 0 ? -EBADMSG : pass_row(visits, &row);
		if (r)
			return r;
	}
	return r;
}

static bool *visit_of(const struct visits *visits, uint64_t cookie)
{
	const uint64_t *found = bsearch(&cookie, visits->wanted, visits->n, sizeof(cookie), by_u64);

	return found ? &visits->visited[found - visits->wanted] : NULL;
}

static bool was_visited(const struct visits *visits, uint64_t cookie)
{
	const bool *visited = visit_of(visits, cookie);

	return visited && *visited;
}

/*
 * Passes the connections of the namespace that this thread is in. Returns 0, 1 at the end of the
 * work, or -errno.
 */
static int visit(uint64_t cookie, void *data)
{
	struct visits *visits = data;
	bool *visited = visit_of(visits, cookie);
	_cleanup_fclose_ FILE *file = NULL;
	int r;

	if (!visited || *visited)
		return 0;
	r = open_list(visits->pin_dir, &file);
	if (r < 0)
		return r;
	visits->result = pass_list(file, visits);
	*visited = true;
	visits->n_left--;
	return visits->result || visits->n_left == 0;
}

/* A snapshot of both maps. */
struct snapshot {
	struct conn_row *rows;
	size_t n, size;
};

static int add_row(const struct conn_row *row, void *data)
{
	struct snapshot *snapshot = data;

	if (snapshot->n == snapshot->size) {
		const size_t size = snapshot->size ? 2 * snapshot->size : 64;
		struct conn_row *rows = reallocarray(snapshot->rows, size, sizeof(*rows));

		if (!rows)
			return -ENOMEM;
		snapshot->rows = rows;
		snapshot->size = size;
	}
	snapshot->rows[snapshot->n++] = *row;
	return 0;
}

/* Fills in the namespaces of these connections, and @own. Returns 0 or -ENOMEM. */
static int find_wanted(const struct snapshot *snapshot, uint64_t own, struct visits *visits)
{
	size_t i, n = 0;

	visits->wanted = calloc(snapshot->n + 1, sizeof(*visits->wanted));
	visits->visited = calloc(snapshot->n + 1, sizeof(*visits->visited));
	if (!visits->wanted || !visits->visited)
		return -ENOMEM;
	visits->wanted[n++] = own;
	for (i = 0; i < snapshot->n; i++) {
		const uint64_t cookie = snapshot->rows[i].netns_cookie;

		if (cookie && cookie != visits->wanted[n - 1])
			visits->wanted[n++] = cookie;
	}
	qsort(visits->wanted, n, sizeof(*visits->wanted), by_u64);
	for (i = 0; i < n; i++) {
		if (visits->n == 0 || visits->wanted[i] != visits->wanted[visits->n - 1])
			visits->wanted[visits->n++] = visits->wanted[i];
	}
	visits->n_left = visits->n;
	return 0;
}

/* Notes when these connections began. Returns 0 or -ENOMEM. */
static int find_beginnings(const struct snapshot *snapshot, struct visits *visits)
{
	size_t i;

	visits->beginnings = calloc(snapshot->n + 1, sizeof(*visits->beginnings));
	if (!visits->beginnings)
		return -ENOMEM;
	for (i = 0; i < snapshot->n; i++)
		visits->beginnings[i] = (struct beginning){
			.id = snapshot->rows[i].id,
			.started_ns = snapshot->rows[i].started_ns,
		};
	visits->n_beginnings = snapshot->n;
	qsort(visits->beginnings, snapshot->n, sizeof(*visits->beginnings), by_u64);
	return 0;
}

static void set_rule(int texts_fd, uint32_t counter, struct conn_row *row)
{
	struct tproxy_rule_text text;

	if (texts_fd < 0 || rules_view_rule_text(texts_fd, counter, &text) < 0 || !text.generation)
		return;
	if (*text.name)
		snprintf(row->rule, sizeof(row->rule), "%s", text.name);
	else if (text.line && strncmp(text.text, "default ", 8) != 0)
		snprintf(row->rule, sizeof(row->rule), "line:%u", text.line);
	else
		strcpy(row->rule, "default");
	strcpy(row->upstream, text.upstream);
}

static int read_redirected(const char *pin_dir, connections_fn fn, void *data)
{
	_cleanup_free_ struct conns_entry *entries = NULL;
	const uint64_t now_ns = monotonic_kernel_ns();
	_cleanup_close_ int texts_fd = -1;
	size_t n = 0, i;
	int r;

	bpffs_open_map(pin_dir, PINNED_RULE_TEXTS, /* writable= */ false, &texts_fd);
	r = conns_read(pin_dir, &entries, &n);
	for (i = 0; i < n && r == 0; i++) {
		const struct tproxy_conn *conn = &entries[i].conn;
		struct conn_row row;

		conn_row_of_redirected(entries[i].cookie, conn, now_ns, &row);
		set_rule(texts_fd, conn->rule_counter, &row);
		r = fn(&row, data);
	}
	return r;
}

struct observed_pass {
	int texts_fd;
	connections_fn fn;
	void *data; /* of fn */
};

static int pass_observed(uint64_t cookie, const struct tproxy_observed *conn, void *data)
{
	const struct observed_pass *pass = data;
	struct conn_row row;

	if (!(conn->flags & TPROXY_OBSERVED_SENT))
		return 0;
	conn_row_of_observed(cookie, conn, monotonic_kernel_ns(), &row);
	set_rule(pass->texts_fd, conn->rule_counter, &row);
	return pass->fn(&row, pass->data);
}

static int read_observed(const char *pin_dir, connections_fn fn, void *data)
{
	_cleanup_close_ int texts_fd = -1;
	struct observed_pass pass = { .fn = fn, .data = data };

	bpffs_open_map(pin_dir, PINNED_RULE_TEXTS, /* writable= */ false, &texts_fd);
	pass.texts_fd = texts_fd;
	return observed_entries_walk_pinned(pin_dir, pass_observed, &pass);
}

/* Reads the maps. Returns 0, the result of @fn, or -errno. */
static int read_maps(const char *pin_dir, connections_fn fn, void *data)
{
	int r = read_redirected(pin_dir, fn, data);

	if (r)
		return r;
	r = read_observed(pin_dir, fn, data);
	/* Its mode may exclude this user. */
	return r == -EACCES || r == -EPERM ? 0 : r;
}

/*
 * Reads the lists of all namespaces of these connections. Returns 0, -errno if no list can be read,
 * or what ended it.
 */
static int read_lists(const struct snapshot *snapshot, struct visits *visits)
{
	uint64_t own;
	int r;

	r = netns_tour_cookie(&own);
	if (r == 0)
		r = find_wanted(snapshot, own, visits);
	if (r == 0)
		r = find_beginnings(snapshot, visits);
	if (r == 0)
		r = visit(own, visits);
	if (r < 0 || visits->result)
		return r < 0 ? r : visits->result;
	/* Namespaces that cannot be entered are not visited. */
	if (visits->n_left > 0 && geteuid() == 0)
		netns_tour(visit, visits);
	return visits->result;
}

int connections_read(const char *pin_dir, connections_fn fn, void *data,
		     enum connections_source *ret_source)
{
	struct visits visits = { .pin_dir = pin_dir, .fn = fn, .data = data };
	struct snapshot snapshot = {};
	size_t i;
	int r;

	r = read_maps(pin_dir, add_row, &snapshot);
	if (r == 0) {
		/* Without a list all of them come from the maps. */
		read_lists(&snapshot, &visits);
		r = visits.result;
	}
	if (ret_source)
		*ret_source = visits.n_left < visits.n ? CONNECTIONS_LIVE : CONNECTIONS_MAPS;
	for (i = 0; i < snapshot.n && r == 0; i++) {
		if (!was_visited(&visits, snapshot.rows[i].netns_cookie))
			r = fn(&snapshot.rows[i], data);
	}
	free(snapshot.rows);
	free(visits.wanted);
	free(visits.visited);
	free(visits.beginnings);
	return r;
}

const char *connections_why_maps(const char *pin_dir)
{
	_cleanup_fclose_ FILE *file = NULL;
	const int r = open_list(pin_dir, &file);

	if (r == -ENOENT)
		return "tproxy-load has pinned no list of connections, or it was removed";
	if (r == -EACCES || r == -EPERM)
		return "this user may not read the list of connections";
	return r == -EPROTO ? "another version has pinned the list of connections" : strerror(-r);
}
