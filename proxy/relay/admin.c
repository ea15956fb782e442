// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See admin.h. Pages are written when a client asks for them, from the counters of the workers,
 * which any thread may read, and from the pinned maps. Nothing here waits for a worker, and no
 * worker waits for the main thread.
 */
#include "admin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "admin/server.h"
#include "kernel/counters.h"
#include "log.h"
#include "relay.h"
#include "report/metrics.h"
#include "sink.h"
#include "util.h"

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

static void write_metrics(FILE *out, void *data)
{
	struct relay *relay = data;
	const struct stats *workers[2 * OPTIONS_WORKERS_MAX];
	struct counters counters;
	struct metrics metrics = {
		.workers = workers,
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
	uint32_t i;

	for (i = 0; i < relay->n_workers; i++)
		workers[i] = &relay->workers[i].env.stats;
	if (counters_read(relay->options.pin_dir, &counters) == 0) {
		verdicts_update(&relay->admin.verdicts, counters.loaded_ns, counters.stats);
		metrics.verdicts = relay->admin.verdicts;
		metrics.kernel = &counters;
	}
	metrics_write(out, &metrics);
	if (metrics.kernel)
		counters_finish(&counters);
}

static const struct admin_page pages[] = {
	{ "/metrics", METRICS_CONTENT_TYPE, write_metrics },
};

static void log_address(const struct admin_address *address)
{
	char text[FORMAT_ENDPOINT_LEN];

	log_info("metrics are served on %s",
		 *address->path ? address->path : format_endpoint(&address->tcp, text));
}

int admin_start(struct relay *relay)
{
	const struct admin_address *address = &relay->options.admin;
	struct admin *admin = &relay->admin;
	int r;

	if (!admin_address_is_set(address))
		return 0;
	admin->started_s = unix_time();
	r = admin_socket_open(address, &admin->socket);
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

void admin_end(struct relay *relay)
{
	admin_server_stop(TAKE_PTR(relay->admin.server));
	admin_socket_close(&relay->admin.socket);
}
