// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See admin.h. Pages are written when a client asks for them, from the counters of the workers,
 * which any thread may read, and from the pinned maps. Nothing here waits for a worker, and no
 * worker waits for the main thread.
 */
#include "admin.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "admin/page.h"
#include "admin/server.h"
#include "kernel/counters.h"
#include "kernel/packets.h"
#include "kernel/live.h"
#include "log.h"
#include "monotonic.h"
#include "relay.h"
#include "report/metrics.h"
#include "report/snapshot.h"
#include "report/upstreams.h"
#include "sink.h"
#include "util.h"

/* Limit of connections that are read for the page: some 20 ms. */
#define LIVE_MAX 5000
/* Age at which the state for the page is made again. */
#define SNAPSHOT_MS 900

static double cpu_seconds(void)
{
	struct rusage usage = {};

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint64_t resident_bytes(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/statm", "re");
	uint64_t pages = 0;

	if (!file || fscanf(file, "%*u %" SCNu64, &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double unix_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* True if new connections come to this relay. */
static bool is_registered(const struct relay *relay)
{
	return !relay->draining &&
	       (relay->reg_state == REGISTRATION_GOOD || relay->reg_state == REGISTRATION_FAILED);
}

/* What the pages show. Everything is read when it is asked for. */
struct view {
	const struct stats *workers[2 * OPTIONS_WORKERS_MAX];
	struct counters counters;
	struct metrics metrics;
};

static void view_init(struct relay *relay, struct view *view)
{
	struct metrics *m = &view->metrics;
	uint32_t i;

	*m = (struct metrics){
		.workers = view->workers,
		.n_workers = relay->options.workers,
		.sessions_max =
			atomic_load_explicit(&relay->shared.limit.max, memory_order_relaxed),
		.registered = is_registered(relay),
		.stuck = relay->stuck,
		.lines_dropped = sink_dropped(),
		.started_s = relay->admin.started_s,
		.cpu_s = cpu_seconds(),
		.resident_bytes = resident_bytes(),
	};
	for (i = 0; i < relay->n_workers; i++)
		view->workers[i] = &relay->workers[i].env.stats;
	if (counters_read(relay->options.pin_dir, &view->counters) == 0) {
		verdicts_update(&relay->admin.verdicts, view->counters.loaded_ns,
				view->counters.stats);
		m->verdicts = relay->admin.verdicts;
		m->kernel = &view->counters;
	}
}

static void view_finish(struct view *view)
{
	if (view->metrics.kernel)
		counters_finish(&view->counters);
}

static void write_metrics(FILE *out, void *data)
{
	const struct relay *relay = data;
	struct packets packets = {};
	struct view view;

	view_init(data, &view);
	if (packets_read(relay->options.pin_dir, &packets) == 0)
		view.metrics.packets = &packets;
	metrics_write(out, &view.metrics);
	upstreams_report_metrics(out, relay->upstreams);
	packets_finish(&packets);
	view_finish(&view);
}

static void make_snapshot(struct relay *relay, FILE *out)
{
	struct live live;
	struct view view;
	const bool has_live =
		live_read(relay->options.pin_dir, relay->reg.netns_cookie, LIVE_MAX, &live) == 0;

	view_init(relay, &view);
	snapshot_write(out, &(struct snapshot){
				    .metrics = &view.metrics,
				    .history = &relay->admin.history,
				    .live = has_live ? &live : NULL,
				    .pid = relay->reg.pid,
				    .uptime_s = (uint64_t)(unix_time() - relay->admin.started_s),
				    .upstreams = relay->upstreams,
				    .now_ns = monotonic_kernel_ns(),
				    .now_ms = monotonic_coarse_ms(),
			    });
	view_finish(&view);
	if (has_live)
		live_finish(&live);
}

/* Many pages may be open: all of them get the state of one moment, SNAPSHOT_MS old at most. */
static void write_snapshot(FILE *out, void *data)
{
	struct relay *relay = data;
	struct admin *admin = &relay->admin;
	const uint64_t now_ms = monotonic_coarse_ms();
	FILE *memory;

	if (!admin->snapshot || now_ms - admin->snapshot_ms >= SNAPSHOT_MS) {
		free(TAKE_PTR(admin->snapshot));
		memory = open_memstream(&admin->snapshot, &admin->snapshot_len);
		if (!memory)
			return;
		make_snapshot(relay, memory);
		fclose(memory);
		admin->snapshot_ms = now_ms;
	}
	fwrite(admin->snapshot, 1, admin->snapshot_len, out);
}

static void write_upstreams(FILE *out, void *data)
{
	const struct relay *relay = data;

	upstreams_report_json(out, relay->upstreams, monotonic_coarse_ms());
}

static void write_page(FILE *out, void *data)
{
	fwrite(admin_page_html, 1, admin_page_html_len, out);
}

static void write_script(FILE *out, void *data)
{
	fwrite(admin_page_js, 1, admin_page_js_len, out);
}

static void write_style(FILE *out, void *data)
{
	fwrite(admin_page_css, 1, admin_page_css_len, out);
}

static const struct admin_page pages[] = {
	{ "/", "text/html; charset=utf-8", write_page },
	{ "/page.js", "text/javascript; charset=utf-8", write_script },
	{ "/page.css", "text/css; charset=utf-8", write_style },
	{ "/state.json", SNAPSHOT_CONTENT_TYPE, write_snapshot },
	{ "/upstreams.json", SNAPSHOT_CONTENT_TYPE, write_upstreams },
	{ "/metrics", METRICS_CONTENT_TYPE, write_metrics },
};

static void log_address(const struct admin_address *address)
{
	char text[FORMAT_ENDPOINT_LEN];

	log_info("page and metrics are served on %s",
		 *address->path ? address->path : format_endpoint(&address->tcp, text));
}

/* Opens the socket and serves. Returns 0 or -errno, logged. */
static int serve(struct relay *relay)
{
	const struct admin_address *address = &relay->options.admin;
	struct admin *admin = &relay->admin;
	int r = admin_socket_open(address, &admin->socket);

	if (r < 0)
		return r;
	r = admin_server_start(relay->base, admin->socket.fd, !*address->path, pages,
			       ARRAY_SIZE(pages), relay, &admin->server);
	if (r < 0)
		log_err("--admin: %s", strerror(-r));
	else
		log_address(address);
	return r;
}

static void stop_serving(struct admin *admin)
{
	admin_server_stop(TAKE_PTR(admin->server));
	admin_socket_close(&admin->socket);
}

/* Stops listening on a port that the relay that was started later has too. */
static void leave_port(struct admin *admin)
{
	if (!admin->server || !admin_server_is_idle(admin->server))
		return;
	stop_serving(admin);
	log_info("page and metrics are left to the relay that is registered now");
}

/*
 * The relay that was started last answers, until its end. A UNIX socket is gone then, as the later
 * relay has replaced and removed its file: makes it again. A TCP port is left while the later relay
 * is registered, and served again afterwards. While another relay is to take over, nothing changes.
 */
static void follow_other_relays(struct relay *relay)
{
	static struct log_limit limit;
	struct admin *admin = &relay->admin;

	if (relay->handover_until_ms)
		return;
	if (!*relay->options.admin.path && relay->reg_state == REGISTRATION_OTHER) {
		leave_port(admin);
		return;
	}
	if (admin->server && !admin_socket_is_gone(&admin->socket))
		return;
	stop_serving(admin);
	log_limit_begin(&limit);
	serve(relay);
	log_limit_end();
}

/* Every second: a sample of the counters that the page plots. */
static void on_sample(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;
	struct admin *admin = &relay->admin;
	struct counters kernel;
	struct stats sum = {};
	uint64_t counters[_HISTORY_MAX];
	uint32_t i;

	follow_other_relays(relay);
	for (i = 0; i < relay->n_workers; i++)
		stats_sum(&sum, &relay->workers[i].env.stats);
	if (counters_read_stats(relay->options.pin_dir, &kernel) == 0)
		verdicts_update(&admin->verdicts, kernel.loaded_ns, kernel.stats);
	counters[HISTORY_REDIRECTED] = admin->verdicts.sums[CONN_REDIRECTED];
	counters[HISTORY_DIRECT] =
		admin->verdicts.sums[CONN_DIRECT] + admin->verdicts.sums[CONN_OBSERVED];
	counters[HISTORY_REFUSED] = admin->verdicts.sums[CONN_REFUSED];
	counters[HISTORY_FAILED] = stats_get(&sum.closed[CLOSE_CONNECT_FAILED]) +
				   stats_get(&sum.closed[CLOSE_CONNECT_TIMEOUT]);
	counters[HISTORY_UP] = stats_get(&sum.bytes_up);
	counters[HISTORY_DOWN] = stats_get(&sum.bytes_down);
	history_add(&admin->history, counters);
}

static int start_sampling(struct relay *relay)
{
	static const struct timeval second = { .tv_sec = 1 };
	struct admin *admin = &relay->admin;

	admin->sampling = event_new(relay->base, -1, EV_PERSIST, on_sample, relay);
	if (!admin->sampling || event_add(admin->sampling, &second) < 0) {
		log_err("--admin: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	on_sample(-1, 0, relay);
	return 0;
}

int admin_start(struct relay *relay)
{
	int r;

	if (!admin_address_is_set(&relay->options.admin))
		return 0;
	relay->admin.started_s = unix_time();
	r = serve(relay);
	return r < 0 ? r : start_sampling(relay);
}

void admin_end(struct relay *relay)
{
	struct admin *admin = &relay->admin;

	stop_serving(admin);
	if (admin->sampling)
		event_free(TAKE_PTR(admin->sampling));
	free(TAKE_PTR(admin->snapshot));
}
