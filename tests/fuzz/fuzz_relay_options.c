// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The command line of tproxy-relay and the section [relay] of its file. Accepted options are within
 * their limits, and parse to the same options when written as a command line of their own.
 */
#include "argv.h"

#include "../../common/parse.c"
#define open   fuzz_open
#define fdopen fuzz_fdopen
#include "../../common/configfile.c"
#undef fdopen
#undef open
#include "../../common/opthelp.c"
#include "../../common/optable.c"
#include "../../common/optparse.c"
#include "../../proxy/options.c"

#define WEEK_MS (UINT64_C(7) * 24 * 3600 * 1000)

static void check_sense(const struct options *o)
{
	require(*o->pin_dir && memchr(o->pin_dir, '\0', sizeof(o->pin_dir)));
	require(o->listen[TPROXY_INET].sa.sa_family == AF_INET);
	require(o->listen[TPROXY_INET6].sa.sa_family == AF_INET6);
	require(o->workers >= 1 && o->workers <= OPTIONS_WORKERS_MAX);
	require(!*o->admin.path || *o->admin.path == '/');
	require(o->max_connections <= 10000000);
	require(o->buffer_size >= 4 << 10 && o->buffer_size <= 1 << 20);
	require(o->pipe_size == 0 || (o->pipe_size >= 64 << 10 && o->pipe_size <= 1 << 20));
	require(o->busy_poll_us <= 1000);
	require(o->keepalive_ms <= 9 * 3600 * 1000);
	require(o->workers * options_listeners(o, TPROXY_INET) <= TPROXY_PORTS_MAX);
	require(o->workers * options_listeners(o, TPROXY_INET6) <= TPROXY_PORTS_MAX);
	require(o->connect_timeout_ms <= WEEK_MS);
	require(o->idle_timeout_ms <= WEEK_MS);
	require(o->half_closed_timeout_ms <= WEEK_MS);
	require(o->drain_timeout_ms <= WEEK_MS);
	require(o->error_memory_ms <= WEEK_MS);
	require(!o->reader && upstream_config_has(&o->upstreams, o->upstreams.default_name));
	require(o->upstreams.n_sniff_ports >= 1 &&
		o->upstreams.n_sniff_ports <= ARRAY_SIZE(o->upstreams.sniff_ports));
	require(o->upstreams.sniff || names_count(o->upstreams.names) == 0);
	require(o->connection_log >= CONNLOG_NONE && o->connection_log <= CONNLOG_JSON);
}

static void check_same(const struct options *a, const struct options *b)
{
	require(strcmp(a->pin_dir, b->pin_dir) == 0);
	require(memcmp(a->listen, b->listen, sizeof(a->listen)) == 0);
	require(!a->listen_given[TPROXY_INET] == !b->listen_given[TPROXY_INET]);
	require(!a->listen_given[TPROXY_INET6] == !b->listen_given[TPROXY_INET6]);
	require(a->workers == b->workers && a->max_connections == b->max_connections);
	require(a->max_per_cgroup == b->max_per_cgroup);
	require(a->buffer_size == b->buffer_size && a->pipe_size == b->pipe_size);
	require(a->keepalive_ms == b->keepalive_ms && a->backlog == b->backlog);
	require(a->busy_poll_us == b->busy_poll_us);
	require(a->pass_mark == b->pass_mark);
	require(a->listeners == b->listeners && a->drain_in_background == b->drain_in_background);
	require(a->connect_timeout_ms == b->connect_timeout_ms);
	require(a->idle_timeout_ms == b->idle_timeout_ms);
	require(a->half_closed_timeout_ms == b->half_closed_timeout_ms);
	require(a->drain_timeout_ms == b->drain_timeout_ms);
	require(a->error_memory_ms == b->error_memory_ms);
	require(a->verbose == b->verbose && a->connection_log == b->connection_log);
	require(memcmp(&a->admin, &b->admin, sizeof(a->admin)) == 0);
	require(a->upstreams.sniff == b->upstreams.sniff);
	require(a->upstreams.n_sniff_ports == b->upstreams.n_sniff_ports);
	require(memcmp(a->upstreams.sniff_ports, b->upstreams.sniff_ports,
		       a->upstreams.n_sniff_ports * sizeof(a->upstreams.sniff_ports[0])) == 0);
}

static void add(struct fuzz_argv *a, const char *fmt, ...) _printf_(2, 3);
static void add(struct fuzz_argv *a, const char *fmt, ...)
{
	char word[PATH_MAX + 64];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(word, sizeof(word), fmt, ap);
	va_end(ap);
	require(n > 0 && (size_t)n < sizeof(word));
	fuzz_argv_add(a, word, (size_t)n);
}

static void add_ports(struct fuzz_argv *a, const struct upstreams_conf *conf)
{
	char text[256] = "";
	size_t used = 0, i;

	for (i = 0; i < conf->n_sniff_ports; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", i > 0 ? "," : "",
					 conf->sniff_ports[i]);
	add(a, "--sniff-ports=%s", text);
}

/* Writes all options as a command line and parses it again. */
static void check_round_trip(const struct options *o)
{
	struct fuzz_argv a = {};
	static const char *const formats[] = { "none", "text", "json" };
	struct options again;
	char addr[FORMAT_ENDPOINT_LEN];
	size_t i;

	add(&a, "tproxy-relay");
	add(&a, "--pin-dir=%s", o->pin_dir);
	add(&a, "--workers=%u", o->workers);
	if (o->max_connections)
		add(&a, "--max-connections=%u", o->max_connections);
	add(&a, "--buffer-size=%u", o->buffer_size);
	add(&a, "--pipe-size=%u", o->pipe_size);
	add(&a, "--backlog=%u", o->backlog);
	add(&a, "--busy-poll=%u", o->busy_poll_us);
	if (o->max_per_cgroup)
		add(&a, "--max-per-cgroup=%u", o->max_per_cgroup);
	if (o->listeners)
		add(&a, "--listeners=%u", o->listeners);
	if (o->drain_in_background)
		add(&a, "--drain-in-background");
	if (o->pass_mark)
		add(&a, "--pass-mark");
	if (o->verbose)
		add(&a, "--verbose");
	if (o->upstreams.sniff)
		add(&a, "--sniff");
	add_ports(&a, &o->upstreams);
	add(&a, "--connection-log=%s", formats[o->connection_log]);
	if (admin_address_is_set(&o->admin))
		add(&a, "--admin=%s",
		    *o->admin.path ? o->admin.path : format_endpoint(&o->admin.tcp, addr));
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		if (o->listen_given[i])
			add(&a, "--listen=%s", format_endpoint(&o->listen[i], addr));
	}
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const uint64_t *ms = (const void *)((const char *)o + rows[i].offset);

		if (rows[i].type == OPTABLE_TYPE_DURATION)
			add(&a, "--%s=%" PRIu64 "%s", rows[i].name, *ms, *ms ? "ms" : "");
	}
	require(options_parse(a.argc, a.argv, &again) == 0);
	check_same(o, &again);
	fuzz_argv_finish(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct options o, poison;
	struct fuzz_argv a;
	int r;

	memset(&poison, 0xa5, sizeof(poison));
	memcpy(&o, &poison, sizeof(o));
	fuzz_argv_init(&a, "tproxy-relay", data, size);
	fuzz_logged = 0;
	r = options_parse(a.argc, a.argv, &o);
	require(r == 0 || r == 1 || r == -EINVAL);
	require((r == -EINVAL) == (fuzz_logged > 0));
	if (r != 0)
		require(memcmp(&o, &poison, sizeof(o)) == 0);
	fuzz_argv_finish(&a);
	if (r == 0) {
		check_sense(&o);
		check_round_trip(&o);
		options_finish(&o);
	}
	return 0;
}
