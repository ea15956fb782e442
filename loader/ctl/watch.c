// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl watch: each connection of the scopes as it begins and as it ends, and the sums at the
 * end. The kernel half reports into a ring of this process (state/watch_rings.c), watch_join.c
 * joins the events of a connection, watch_line.c prints them.
 *
 * The ring is read every POLL_MS: the kernel half wakes no watcher, because that would cost more
 * than the connection. Events that did not fit into the ring are counted and shown.
 *
 * The kernel half sees a redirected connection on the client's side only. If the relay could not
 * reach the destination, this is a reset, and the true reason is in the negative cache.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpffs.h"
#include "commands.h"
#include "filter.h"
#include "host/address.h"
#include "host/json.h"
#include "log.h"
#include "monotonic.h"
#include "observed_end.h"
#include "options.h"
#include "parse.h"
#include "state/connections.h"
#include "state/maps.h"
#include "state/rules_view.h"
#include "state/upstream_names.h"
#include "state/watch_rings.h"
#include "util.h"
#include "watch_join.h"
#include "watch_line.h"
#include "watch_owner.h"
#include "watch_totals.h"

#define POLL_MS	  50
#define NS_PER_MS UINT64_C(1000000)
/* Interval between checks of the pins and of the bytes of live connections. */
#define CHECK_MS 1000
/* Lines of each table of sums. JSON has all. */
#define TOTALS_LINES 20

static const struct ctl_usage usage = {
	.command = CTL_WATCH,
	.synopsis = "[FILTER]... [--inbound] [--for DURATION] [--exit-over SIZE] [--buffer SIZE] "
		    "[--json] [-p DIR]",
	.about =
		"Prints each connect() of the scopes as it happens: the process, the addresses, and\n"
		"whether the connection is redirected, direct, observed or refused, and why; then\n"
		"how it has ended. Ctrl-C ends it and prints sums by destination and program.\n" FILTER_ABOUT,
};

struct watch {
	const struct ctl_options *options;
	struct watch_rings *rings;
	struct watch_join *join;
	struct watch_owners *owners;
	struct watch_lines lines;
	int texts_fd, failed_fd; /* map_rule_texts, map_failed */
	struct upstream_names upstreams;
	uint64_t began_ms, checked_ms, reported_ms;
	uint64_t counts[_CONN_VERDICT_MAX], inbound, failed, lost;
	uint64_t bytes_up, bytes_down;		 /* of connections that have ended */
	uint64_t live_bytes_up, live_bytes_down; /* of those that have not, as last read */
	struct watch_totals destinations, programs;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

/* --- one connection */

static void set_rule(const struct watch *watch, struct watch_conn *conn)
{
	struct tproxy_rule_text text;

	if (conn->inbound || watch->texts_fd < 0 ||
	    rules_view_rule_text(watch->texts_fd, conn->rule_counter, &text) < 0 ||
	    !text.generation)
		return;
	conn->rule_line = text.line;
	if (conn->row.verdict == CONN_REDIRECTED)
		strcpy(conn->row.upstream, text.upstream);
	if (*text.name)
		snprintf(conn->row.rule, sizeof(conn->row.rule), "%s", text.name);
	else if (strncmp(text.text, "default", strlen("default")) == 0)
		strcpy(conn->row.rule, "default");
	else
		snprintf(conn->row.rule, sizeof(conn->row.rule), "line:%u", text.line);
}

static void add_connection(struct watch *watch, const struct watch_conn *conn)
{
	char dst[ADDRESS_ENDPOINT_LEN];

	watch_totals_at(&watch->destinations, address_format_endpoint(&conn->row.dst, dst))
		->connections++;
	watch_totals_at(&watch->programs, conn->row.comm)->connections++;
	if (conn->inbound)
		watch->inbound++;
	else
		watch->counts[conn->row.verdict]++;
}

static void add_bytes(struct watch *watch, const struct watch_conn *conn, uint64_t up,
		      uint64_t down, bool failed)
{
	char dst[ADDRESS_ENDPOINT_LEN];
	struct watch_total *total;

	total = watch_totals_at(&watch->destinations, address_format_endpoint(&conn->row.dst, dst));
	total->bytes_up += up;
	total->bytes_down += down;
	total->failed += failed;
	total = watch_totals_at(&watch->programs, conn->row.comm);
	total->bytes_up += up;
	total->bytes_down += down;
	total->failed += failed;
	watch->failed += failed;
}

static void on_started(struct watch_conn *conn, void *data)
{
	struct watch *watch = data;
	const struct conn_filter *filter = &watch->options->filter;
	const bool refused = conn->row.verdict == CONN_REFUSED;

	if (conn->inbound)
		watch_owners_set(watch->owners, &conn->row);
	conn->wanted = filter_matches(filter, &conn->row);
	if (!conn->wanted || (refused && !filter_matches_fate(filter, "refused")))
		return;
	set_rule(watch, conn);
	upstream_names_set(&watch->upstreams, &conn->row);
	/* With --fate a connection counts when its fate is known. */
	if (filter->fates && !refused)
		return;
	add_connection(watch, conn);
	if (refused)
		add_bytes(watch, conn, 0, 0, /* failed= */ true);
	watch_lines_print_start(&watch->lines, conn);
}

/*
 * Returns the errno with which the relay could not reach the destination, or 0. An entry of the
 * negative cache that is valid at the end of the connection is not older than the connection: an
 * older one would have refused the connection.
 */
static int relay_error(const struct watch *watch, const struct watch_conn *conn,
		       const struct tproxy_event *event)
{
	const struct tproxy_failed_key key = { .netns_cookie = conn->row.netns_cookie,
					       .dst = conn->row.dst,
					       .upstream = upstream_names_id(&conn->row) };
	struct tproxy_failed failed;

	if (conn->row.verdict != CONN_REDIRECTED || conn->earlier || event->bytes_down ||
	    watch->failed_fd < 0 || bpf_map_lookup_elem(watch->failed_fd, &key, &failed) < 0 ||
	    failed.expires_ns <= event->ended_ns)
		return 0;
	return (int)failed.error;
}

static struct watch_fate fate_of(const struct watch *watch, const struct watch_conn *conn,
				 const struct tproxy_event *event)
{
	const struct observed_end end = observed_end(event);
	struct watch_fate fate = { end.reason, end.error, end.measured };
	int error;

	/* This side is the server of an accepted connection. */
	if (conn->inbound && strcmp(fate.reason, "reset by client") == 0)
		fate.reason = "reset by server";
	else if (conn->inbound && strcmp(fate.reason, "reset by server") == 0)
		fate.reason = "reset by client";
	if (strcmp(fate.reason, "reset by server") != 0)
		return fate;
	error = relay_error(watch, conn, event);
	if (error)
		fate = (struct watch_fate){ "destination failed", error, end.measured };
	return fate;
}

static void on_ended(struct watch_conn *conn, const struct tproxy_event *event, void *data)
{
	struct watch *watch = data;
	const struct conn_filter *filter = &watch->options->filter;
	struct watch_fate fate;

	if (conn->earlier)
		conn->wanted = filter_matches(filter, &conn->row);
	if (!conn->wanted)
		return;
	fate = fate_of(watch, conn, event);
	if (!filter_matches_fate(filter, fate.reason))
		return;
	if (filter->fates || conn->earlier)
		add_connection(watch, conn);
	add_bytes(watch, conn, event->bytes_up, event->bytes_down, filter_is_failure(fate.reason));
	watch->bytes_up += event->bytes_up;
	watch->bytes_down += event->bytes_down;
	watch_lines_print_end(&watch->lines, conn, event, &fate);
}

static void on_event(const struct tproxy_watch_head *event, size_t size, void *data)
{
	struct watch *watch = data;

	watch_join_event(watch->join, event, size);
}

/* --- live connections */

static int add_earlier(const struct conn_row *row, void *data)
{
	struct watch *watch = data;

	/* The row has just been read: what was reported until now is about this connection. */
	watch_join_add(watch->join, row, row->started_ns, watch->rings ? monotonic_kernel_ns() : 0);
	return 0;
}

/* True if the filters let a connection pass that has not ended. */
static bool is_wanted(const struct watch_conn *conn, void *data)
{
	const struct watch *watch = data;

	return conn->earlier ? filter_matches(&watch->options->filter, &conn->row) : conn->wanted;
}

static int add_live_bytes(const struct conn_row *row, void *data)
{
	struct watch *watch = data;
	const struct watch_conn *conn = watch_join_find(watch->join, row->id);

	if (!conn || !is_wanted(conn, watch))
		return 0;
	watch->live_bytes_up += row->tx_bytes;
	watch->live_bytes_down += row->rx_bytes;
	return 0;
}

static void read_live_bytes(struct watch *watch)
{
	watch->live_bytes_up = watch->live_bytes_down = 0;
	connections_read(watch->options->pin_dir, add_live_bytes, watch, NULL);
}

/* --- the end */

static uint64_t sum_of(const struct watch *watch)
{
	uint64_t sum = watch->inbound;
	size_t i;

	for (i = 0; i < _CONN_VERDICT_MAX; i++)
		sum += watch->counts[i];
	return sum;
}

static size_t count_open(struct watch *watch)
{
	return watch_join_count(watch->join, is_wanted, watch);
}

static void print_totals(struct watch *watch)
{
	const uint64_t sum = sum_of(watch);
	char up[FORMAT_BYTES_LEN], down[FORMAT_BYTES_LEN], time[FORMAT_DURATION_LEN];
	size_t i;

	printf("\n%" PRIu64 " connection%s in %s: ", sum, sum == 1 ? "" : "s",
	       format_duration_ms(monotonic_coarse_ms() - watch->began_ms, time));
	for (i = 0; i < _CONN_VERDICT_MAX; i++)
		printf("%s%" PRIu64 " %s", i ? ", " : "", watch->counts[i], conn_verdict_name(i));
	if (watch->options->inbound)
		printf(", %" PRIu64 " accepted", watch->inbound);
	printf("; %" PRIu64 " failed; up %s, down %s; %zu still open\n", watch->failed,
	       format_bytes(watch->bytes_up, up), format_bytes(watch->bytes_down, down),
	       count_open(watch));
	if (watch->lost)
		printf("%" PRIu64 " events were lost, so the sums are too small\n", watch->lost);
	if (!sum)
		return;
	watch_totals_print(&watch->destinations, "DESTINATION", TOTALS_LINES);
	watch_totals_print(&watch->programs, "PROGRAM", TOTALS_LINES);
}

static void print_totals_json(struct watch *watch)
{
	struct json_object *object = watch_lines_object(&watch->lines, 0, "totals");
	size_t i;

	json_add_number(object, "connections", sum_of(watch));
	for (i = 0; i < _CONN_VERDICT_MAX; i++)
		json_add_number(object, conn_verdict_name(i), watch->counts[i]);
	json_add_number(object, "accepted", watch->inbound);
	json_add_number(object, "failed", watch->failed);
	json_add_number(object, "bytes_up", watch->bytes_up);
	json_add_number(object, "bytes_down", watch->bytes_down);
	json_add_number(object, "open", count_open(watch));
	json_add_number(object, "lost", watch->lost);
	json_add_number(object, "duration_ms", monotonic_coarse_ms() - watch->began_ms);
	watch_totals_add_json(&watch->destinations, object, "destinations", "destination");
	watch_totals_add_json(&watch->programs, object, "programs", "command");
	watch_lines_print_object(object);
}

/* --- the loop */

/* Logs lost events, and prints them as JSON: at most once in CHECK_MS, and at the end. */
static void report_lost(struct watch *watch, bool is_last)
{
	const uint64_t now_ms = monotonic_coarse_ms();
	struct json_object *object;
	char time[FORMAT_DURATION_LEN];
	uint64_t lost, gap_ms;

	if (!is_last && now_ms - watch->reported_ms < CHECK_MS)
		return;
	watch->reported_ms = now_ms;
	lost = watch_rings_take_lost(watch->rings);
	gap_ms = watch_rings_take_gap_ms(watch->rings);
	watch->lost += lost;
	if (lost)
		log_warning("%" PRIu64 " events were lost: the ring was full; see --buffer", lost);
	if (gap_ms)
		log_warning("this process was stopped for %s; events of that time are missing",
			    format_duration_ms(gap_ms, time));
	if (!watch->lines.json || (!lost && !gap_ms))
		return;
	object = watch_lines_object(&watch->lines, 0, "lost");
	json_add_number(object, "events", lost);
	json_add_number(object, "gap_ms", gap_ms);
	watch_lines_print_object(object);
}

/* Reads the ring once, and prints. */
static int pass(struct watch *watch, bool is_last)
{
	int r;

	watch_lines_set_clock(&watch->lines);
	r = watch_rings_read(watch->rings, on_event, watch);
	watch_join_settle(watch->join);
	report_lost(watch, is_last);
	if (r < 0)
		log_err("cannot read the ring: %s", strerror(-r));
	if (r == 0 && fflush(stdout) == EOF) {
		log_answer_failed();
		r = -EIO;
	}
	return r;
}

static bool is_over(struct watch *watch)
{
	const uint64_t limit = watch->options->exit_over;

	if (!limit)
		return false;
	read_live_bytes(watch);
	return watch->bytes_up + watch->bytes_down + watch->live_bytes_up +
		       watch->live_bytes_down >=
	       limit;
}

/* Returns the exit status, once there is one, otherwise -1. */
static int check(struct watch *watch)
{
	const uint64_t now_ms = monotonic_coarse_ms();

	if (watch->options->for_ms && now_ms - watch->began_ms >= watch->options->for_ms)
		return EXIT_SUCCESS;
	if (now_ms - watch->checked_ms < CHECK_MS)
		return -1;
	watch->checked_ms = now_ms;
	if (!watch_rings_are_pinned(watch->rings)) {
		log_err("'%s' was unloaded", watch->options->pin_dir);
		return EXIT_FAILURE;
	}
	return is_over(watch) ? CTL_WATCH_OVER : -1;
}

static int run(struct watch *watch)
{
	const struct timespec interval = { .tv_nsec = POLL_MS * (long)NS_PER_MS };
	const struct sigaction action = { .sa_handler = on_signal };
	sigset_t blocked, before;
	int status = -1;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	watch_lines_print_head(&watch->lines);
	if (pass(watch, /* is_last= */ false) < 0)
		return EXIT_FAILURE;
	watch_join_drop_gone(watch->join);
	while (status < 0) {
		if (pass(watch, /* is_last= */ false) < 0)
			return EXIT_FAILURE;
		status = stopped ? EXIT_SUCCESS : check(watch);
		/* Signals arrive only here. */
		if (status < 0)
			ppoll(NULL, 0, &interval, &before);
	}
	if (pass(watch, /* is_last= */ true) < 0)
		return EXIT_FAILURE;
	if (watch->lines.json)
		print_totals_json(watch);
	else
		print_totals(watch);
	return status;
}

/* --- begin */

static int open_rings(struct watch *watch)
{
	const struct ctl_options *o = watch->options;
	char text[MAPS_ERROR_LEN];
	int r;

	r = watch_rings_open(o->pin_dir, o->buffer, o->inbound, &watch->rings);
	if (r == -EBUSY)
		log_err("%d other processes watch '%s' already; end one of them",
			TPROXY_WATCHERS_MAX, o->pin_dir);
	else if (r < 0)
		log_err("cannot watch '%s': %s", o->pin_dir,
			maps_strerror(o->pin_dir, pinned_maps[PINNED_INTEREST].name, r, text));
	return r;
}

static int begin(struct watch *watch)
{
	const struct watch_join_calls calls = { on_started, on_ended, watch };
	const char *dir = watch->options->pin_dir;
	int r;

	watch->join = watch_join_new(&calls);
	watch->owners = watch_owners_new();
	if (!watch->join || !watch->owners) {
		log_err("out of memory");
		return -ENOMEM;
	}
	bpffs_open_map(dir, PINNED_RULE_TEXTS, /* writable= */ false, &watch->texts_fd);
	bpffs_open_map(dir, PINNED_FAILED, /* writable= */ false, &watch->failed_fd);
	upstream_names_open(dir, &watch->upstreams);
	/* These have an end that is reported, as all that begin from now on. */
	connections_read(dir, add_earlier, watch, NULL);
	r = open_rings(watch);
	if (r < 0)
		return r;
	watch->began_ms = watch->checked_ms = monotonic_coarse_ms();
	connections_read(dir, add_earlier, watch, NULL);
	return 0;
}

static void finish(struct watch *watch)
{
	watch_rings_close(watch->rings);
	watch_join_free(watch->join);
	watch_owners_free(watch->owners);
	watch_totals_finish(&watch->destinations);
	watch_totals_finish(&watch->programs);
	util_closep(&watch->texts_fd);
	util_closep(&watch->failed_fd);
	upstream_names_close(&watch->upstreams);
}

int ctl_watch(int argc, char **argv)
{
	struct ctl_options options;
	struct watch watch = {
		.options = &options,
		.texts_fd = -1,
		.failed_fd = -1,
		.upstreams = UPSTREAM_NAMES_NULL,
	};
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	watch.lines.json = options.json;
	r = maps_check_loaded(options.pin_dir);
	if (r == 0)
		r = filter_prepare(&options.filter);
	if (r == 0)
		r = begin(&watch);
	r = r < 0 ? EXIT_FAILURE : run(&watch);
	finish(&watch);
	filter_finish(&options.filter);
	return r;
}
