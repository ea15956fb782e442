// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See options.h. Every option here must be in tproxy-relay.8.scd and in completion.bash too. */
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "configfile.h"
#include "log.h"
#include "optparse.h"
#include "parse.h"
#include "tproxy_abi.h"
#include "util.h"
#include "version.h"

enum {
	OPT_CONNECT_TIMEOUT = 0x100,
	OPT_IDLE_TIMEOUT,
	OPT_HALF_CLOSED_TIMEOUT,
	OPT_DRAIN_TIMEOUT,
	OPT_MAX_CONNECTIONS,
	OPT_MAX_PER_CGROUP,
	OPT_ERROR_MEMORY,
	OPT_CONNECTION_LOG,
	OPT_BUSY_POLL,
	OPT_LISTENERS,
	OPT_BACKLOG,
	OPT_BUFFER_SIZE,
	OPT_PIPE_SIZE,
	OPT_KEEPALIVE_TIME,
	OPT_DRAIN_IN_BACKGROUND,
	OPT_PASS_MARK,
	OPT_CHECK,
	OPT_VERSION,
};

static const struct optparse_option table[] = {
	{ "pin-dir", 'p', true },
	{ "listen", 'l', true },
	{ "workers", 'w', true },
	{ "listeners", OPT_LISTENERS, true },
	{ "busy-poll", OPT_BUSY_POLL, true },
	{ "backlog", OPT_BACKLOG, true },
	{ "connect-timeout", OPT_CONNECT_TIMEOUT, true },
	{ "idle-timeout", OPT_IDLE_TIMEOUT, true },
	{ "half-closed-timeout", OPT_HALF_CLOSED_TIMEOUT, true },
	{ "keepalive-time", OPT_KEEPALIVE_TIME, true },
	{ "drain-timeout", OPT_DRAIN_TIMEOUT, true },
	{ "drain-in-background", OPT_DRAIN_IN_BACKGROUND, false },
	{ "max-connections", OPT_MAX_CONNECTIONS, true },
	{ "max-per-cgroup", OPT_MAX_PER_CGROUP, true },
	{ "buffer-size", OPT_BUFFER_SIZE, true },
	{ "pipe-size", OPT_PIPE_SIZE, true },
	{ "error-memory", OPT_ERROR_MEMORY, true },
	{ "pass-mark", OPT_PASS_MARK, false },
	{ "connection-log", OPT_CONNECTION_LOG, true },
	{ "config", 'f', true },
	{ "check", OPT_CHECK, false },
	{ "verbose", 'v', false },
	{ "help", 'h', false },
	{ "version", OPT_VERSION, false },
	{},
};

static void print_help(void)
{
	printf("Usage: tproxy-relay [OPTION]...\n"
	       "       tproxy-relay --check [OPTION]...   say whether options and file are good\n"
	       "\n"
	       "Serves the connections that tproxy-load's programs redirect: registers in the\n"
	       "pinned maps, accepts, connects to the original destination, relays.\n"
	       "\n"
	       "  -p, --pin-dir DIR               where tproxy-load pinned (default: %s)\n"
	       "  -l, --listen ADDR:PORT          port 0: any; one for IPv4 and one for IPv6, as\n"
	       "                                  [ADDR]:PORT (default: 127.0.0.1:0 and [::1]:0)\n"
	       "  -w, --workers N                 threads, 1 to %d (default: one per CPU)\n"
	       "      --listeners N               of each worker, for each of IPv4 and IPv6, each with\n"
	       "                                  a port of its own (default: as many as make 4 of\n"
	       "                                  all workers; with a port in --listen, 1)\n"
	       "      --backlog N                 clients that wait for each (default: 4096)\n"
	       "      --busy-poll N               microseconds that a worker looks for events before it\n"
	       "                                  sleeps, while that finds some, 0 to 1000; 0: none\n"
	       "                                  (default: 100)\n"
	       "      --connect-timeout DURATION  to reach the destination (default: 30s)\n"
	       "      --idle-timeout DURATION     without a byte either way (default: 1h)\n"
	       "      --half-closed-timeout DURATION\n"
	       "                                  the same, once one side has ended (default: 5m)\n"
	       "      --keepalive-time DURATION   of silence, then a server is asked whether it is still\n"
	       "                                  there (default: 300s)\n"
	       "      --drain-timeout DURATION    for running connections after SIGTERM\n"
	       "                                  (default: 30s)\n"
	       "      --drain-in-background       on SIGTERM end at once; a child of this process goes\n"
	       "                                  on until another relay has taken over, and drains\n"
	       "      --max-connections N         at a time; 0, as by default: as descriptors allow\n"
	       "      --max-per-cgroup N          of the processes of one cgroup; 0, as by default: no limit\n"
	       "      --buffer-size SIZE          kept at most for each direction of a connection whose\n"
	       "                                  receiver is slow, 4K to 1M (default: 64K)\n"
	       "      --pipe-size SIZE            the same of bulk transfers, 64K to 1M; 0: copy them\n"
	       "                                  like others (default: 512K)\n"
	       "      --error-memory DURATION     how long connect() to a destination that could not\n"
	       "                                  be reached fails at once (default: 1s)\n"
	       "      --pass-mark                 connect with the client's SO_MARK, for routing by\n"
	       "                                  mark; needs CAP_NET_RAW or CAP_NET_ADMIN\n"
	       "  -f, --config FILE               read these options from the section [relay] of a\n"
	       "                                  file; the command line overrides it\n"
	       "      --connection-log FORMAT     a line for each connection: text (stderr), json\n"
	       "                                  (stdout) or none (default: none, text with -v)\n"
	       "  -v, --verbose                   say more\n"
	       "  -h, --help                      print this\n"
	       "      --version                   print the version and that of the pinned maps\n"
	       "\n"
	       "DURATION is a number with ms, s, m, h or d; without a unit, seconds; 0: never. SIZE is\n"
	       "a number of bytes, or with K or M of KiB or MiB.\n",
	       TPROXY_PIN_DIR, OPTIONS_WORKERS_MAX);
}

/* Default number of listeners of all workers, per family. Their ports take more connections than
 * map_socks, see tproxy_abi.h. */
#define LISTENERS_LEAST 4
/* Limit of TCP_KEEPIDLE, 32767 s, in whole hours. */
#define KEEPALIVE_MAX_MS (9 * 3600 * 1000)

static uint32_t default_workers(void)
{
	cpu_set_t cpus;
	int n;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return 1;
	n = CPU_COUNT(&cpus);
	return n > OPTIONS_WORKERS_MAX ? OPTIONS_WORKERS_MAX : (uint32_t)n;
}

#define usage_error(fmt, ...)                                                                      \
	(log_err(fmt "; try 'tproxy-relay --help'" __VA_OPT__(, ) __VA_ARGS__), -EINVAL)

/* Writes the reason to error and returns -EINVAL. */
#define refuse(error, ...) (snprintf(error, CONFIGFILE_ERROR_LEN, __VA_ARGS__), -EINVAL)

/* The options that are durations, with the offset of their field. */
static const struct {
	const char *name;
	size_t offset;
} durations[] = {
	{ "connect-timeout", offsetof(struct options, connect_timeout_ms) },
	{ "idle-timeout", offsetof(struct options, idle_timeout_ms) },
	{ "half-closed-timeout", offsetof(struct options, half_closed_timeout_ms) },
	{ "drain-timeout", offsetof(struct options, drain_timeout_ms) },
	{ "error-memory", offsetof(struct options, error_memory_ms) },
	{ "keepalive-time", offsetof(struct options, keepalive_ms) },
};

static int set_duration(uint64_t *ms, const char *name, const char *value,
			char error[CONFIGFILE_ERROR_LEN])
{
	uint64_t parsed;

	if (parse_duration_ms(value, &parsed) < 0)
		return refuse(
			error,
			"'%s' is not a duration from 1ms to 168h, such as 500ms, 10s, 5m, or 0 for never",
			value);
	/* TCP_KEEPIDLE counts whole seconds. */
	if (strcmp(name, "keepalive-time") == 0 && (parsed % 1000 || parsed > KEEPALIVE_MAX_MS))
		return refuse(error, "'%s' is not whole seconds from 1s to 9h, or 0 for never",
			      value);
	*ms = parsed;
	return 0;
}

/* Parses a size in bytes. zero: 0 is valid too, whatever min is. */
static int set_size(uint32_t *size, const char *value, bool zero, uint32_t min, uint32_t max,
		    char error[CONFIGFILE_ERROR_LEN])
{
	if (zero && strcmp(value, "0") == 0) {
		*size = 0;
		return 0;
	}
	if (parse_size(value, min, max, size) < 0)
		return refuse(error, "'%s' is not a size from %uK to %uK, such as 64K%s", value,
			      min >> 10, max >> 10, zero ? ", or 0 for none" : "");
	return 0;
}

static int set_number(uint32_t *number, const char *value, uint32_t min, uint32_t max,
		      char error[CONFIGFILE_ERROR_LEN])
{
	if (parse_u32(value, min, max, number) < 0)
		return refuse(error, "'%s' is not a number from %u to %u", value, min, max);
	return 0;
}

static int set_listen(struct options *o, const char *value, char error[CONFIGFILE_ERROR_LEN])
{
	char text[FORMAT_ENDPOINT_LEN];
	union sockaddr_any addr;
	enum tproxy_family family;

	if (parse_endpoint(value, &addr) < 0)
		return refuse(
			error,
			"'%s' is not ADDR:PORT, such as 127.0.0.1:0 or [::1]:0: ADDR must be numeric, an IPv6 one in brackets, PORT 0 to 65535",
			value);
	family = addr.sa.sa_family == AF_INET6 ? TPROXY_INET6 : TPROXY_INET;
	if (o->listen_given[family])
		return refuse(error, "'%s' is the second one for %s, after '%s'", value,
			      family == TPROXY_INET6 ? "IPv6" : "IPv4",
			      format_endpoint(&o->listen[family], text));
	o->listen[family] = addr;
	o->listen_given[family] = true;
	return 0;
}

static int set_pin_dir(struct options *o, const char *value, char error[CONFIGFILE_ERROR_LEN])
{
	if (!*value || strlen(value) >= sizeof(o->pin_dir))
		return refuse(error, "the path is %s", *value ? "too long" : "empty");
	strcpy(o->pin_dir, value);
	return 0;
}

static int set_connection_log(struct options *o, const char *value,
			      char error[CONFIGFILE_ERROR_LEN])
{
	static const char *const formats[] = {
		[CONNLOG_NONE] = "none",
		[CONNLOG_TEXT] = "text",
		[CONNLOG_JSON] = "json",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		if (strcmp(value, formats[i]) != 0)
			continue;
		o->connection_log = (enum connlog_format)i;
		o->connection_log_given = true;
		return 0;
	}
	return refuse(error, "'%s' is neither text nor json nor none", value);
}

static int set_bool(bool *to, const char *value, char error[CONFIGFILE_ERROR_LEN])
{
	if (parse_bool(value, to) < 0)
		return refuse(error, "'%s' is neither yes nor no", value);
	return 0;
}

/* Sets one option by its long name, from the command line or from a line of the file. */
static int set_option(void *data, const char *name, const char *value, unsigned int line,
		      char error[CONFIGFILE_ERROR_LEN])
{
	struct options *o = data;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(durations); i++) {
		if (strcmp(name, durations[i].name) == 0)
			return set_duration((uint64_t *)((char *)o + durations[i].offset), name,
					    value, error);
	}
	if (strcmp(name, "listen") == 0)
		return set_listen(o, value, error);
	if (strcmp(name, "pin-dir") == 0)
		return set_pin_dir(o, value, error);
	if (strcmp(name, "workers") == 0)
		return set_number(&o->workers, value, 1, OPTIONS_WORKERS_MAX, error);
	if (strcmp(name, "listeners") == 0)
		return set_number(&o->listeners, value, 1, TPROXY_PORTS_MAX, error);
	if (strcmp(name, "busy-poll") == 0)
		return set_number(&o->busy_poll_us, value, 0, 1000, error);
	if (strcmp(name, "backlog") == 0)
		return set_number(&o->backlog, value, 1, 65535, error);
	if (strcmp(name, "buffer-size") == 0)
		return set_size(&o->buffer_size, value, false, 4 << 10, 1 << 20, error);
	if (strcmp(name, "pipe-size") == 0)
		return set_size(&o->pipe_size, value, true, 64 << 10, 1 << 20, error);
	if (strcmp(name, "max-connections") == 0)
		return set_number(&o->max_connections, value, 0, 10000000, error);
	if (strcmp(name, "max-per-cgroup") == 0)
		return set_number(&o->max_per_cgroup, value, 0, 10000000, error);
	if (strcmp(name, "connection-log") == 0)
		return set_connection_log(o, value, error);
	if (strcmp(name, "verbose") == 0)
		return set_bool(&o->verbose, value, error);
	if (strcmp(name, "drain-in-background") == 0)
		return set_bool(&o->drain_in_background, value, error);
	if (strcmp(name, "pass-mark") == 0)
		return set_bool(&o->pass_mark, value, error);
	return refuse(error, "there is no such key");
}

/*
 * Walks argv. With o NULL it looks only for --config, --help and --version; otherwise it sets all
 * options in *o. Returns 0, 1 if --help or --version was answered, or -EINVAL.
 */
static int walk(int argc, char **argv, struct options *o, const char **config)
{
	char error[CONFIGFILE_ERROR_LEN];
	struct optparse p;
	const char *value;
	int c;

	optparse_init(&p, argc, argv, table);
	while ((c = optparse_next(&p, &value, error)) != OPTPARSE_END) {
		switch (c) {
		case -EINVAL:
			return usage_error("%s", error);
		case OPTPARSE_OPERAND:
			return usage_error("unexpected argument '%s'", value);
		case 'h':
			print_help();
			return 1;
		case OPT_VERSION:
			printf("tproxy-relay %s, ABI version %d\n", TPROXY_VERSION,
			       TPROXY_ABI_VERSION);
			return 1;
		}
		if (!o && c == 'f' && *config)
			return usage_error("--config is given twice: '%s' and '%s'", *config,
					   value);
		if (c == OPT_CHECK && o)
			o->check = true;
		else if (c == 'f')
			*config = value;
		else if (o && set_option(o, optparse_name(table, c), value ? value : "yes", 0,
					 error) < 0)
			return usage_error("--%s: %s", optparse_name(table, c), error);
	}
	return 0;
}

/* Reads the file, then the command line, which overrides the file. */
static int parse_both(int argc, char **argv, struct options *o)
{
	struct configfile file = {
		.section = "relay", .many = "listen", .set = set_option, .data = o
	};
	bool in_file[_TPROXY_FAMILY_MAX];
	const char *config = NULL;
	int i, r;

	r = walk(argc, argv, NULL, &config);
	if (r)
		return r;
	file.path = config;
	if (config && configfile_read(&file) < 0)
		return -EINVAL;
	o->config_has_others = file.others;
	if (config)
		snprintf(o->config, sizeof(o->config), "%s", config);
	memcpy(in_file, o->listen_given, sizeof(in_file));
	memset(o->listen_given, 0, sizeof(o->listen_given));
	r = walk(argc, argv, o, &config);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		o->listen_given[i] |= in_file[i];
	return r;
}

uint32_t options_listeners(const struct options *o, enum tproxy_family family)
{
	if (o->listeners)
		return o->listeners;
	if (o->listen[family].in.sin_port || o->workers >= LISTENERS_LEAST)
		return 1;
	return (LISTENERS_LEAST + o->workers - 1) / o->workers;
}

/* Checks the options that depend on each other. Returns 0 or -EINVAL, logged. */
static int check(const struct options *o)
{
	enum tproxy_family family;
	char addr[FORMAT_ENDPOINT_LEN];
	uint32_t n, port;

	for (family = 0; family < _TPROXY_FAMILY_MAX; family++) {
		n = o->workers * options_listeners(o, family);
		if (n > TPROXY_PORTS_MAX)
			return usage_error(
				"%u workers x %u listeners = %u; at most %d, see --workers and --listeners",
				o->workers, options_listeners(o, family), n, TPROXY_PORTS_MAX);
		port = ntohs(o->listen[family].in.sin_port);
		if (port && port + n - 1 > UINT16_MAX)
			return usage_error(
				"--listen: no %u ports from %s on, one for each listener", n,
				format_endpoint(&o->listen[family], addr));
	}
	return 0;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
	struct options o = {
		.pin_dir = TPROXY_PIN_DIR,
		.connect_timeout_ms = 30 * 1000,
		.idle_timeout_ms = 3600 * 1000,
		.half_closed_timeout_ms = 300 * 1000,
		.drain_timeout_ms = 30 * 1000,
		.error_memory_ms = 1000,
		.keepalive_ms = 300 * 1000,
		.backlog = 4096,
		.busy_poll_us = 100,
		.buffer_size = 64 << 10,
		.pipe_size = 512 << 10,
	};
	int r;

	o.listen[TPROXY_INET].in.sin_family = AF_INET;
	o.listen[TPROXY_INET].in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	o.listen[TPROXY_INET6].in6.sin6_family = AF_INET6;
	o.listen[TPROXY_INET6].in6.sin6_addr = in6addr_loopback;
	r = parse_both(argc, argv, &o);
	o.workers_given = o.workers > 0;
	if (!o.workers_given)
		o.workers = default_workers();
	/* The negative cache is per destination, but an error may concern the route of one mark. */
	if (o.pass_mark)
		o.error_memory_ms = 0;
	if (!o.connection_log_given)
		o.connection_log = o.verbose ? CONNLOG_TEXT : CONNLOG_NONE;
	if (r == 0)
		r = check(&o);
	if (r == 0)
		*ret_options = o;
	return r;
}
