// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See options.h. Every option here stands in tproxy-relay.8.scd and in the completion too. */
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "log.h"
#include "parse.h"
#include "tproxy_abi.h"

enum {
	OPT_CONNECT_TIMEOUT = 0x100,
	OPT_IDLE_TIMEOUT,
	OPT_HALF_CLOSED_TIMEOUT,
	OPT_DRAIN_TIMEOUT,
	OPT_MAX_CONNECTIONS,
	OPT_ERROR_MEMORY,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "pin-dir", required_argument, NULL, 'p' },
	{ "listen", required_argument, NULL, 'l' },
	{ "workers", required_argument, NULL, 'w' },
	{ "connect-timeout", required_argument, NULL, OPT_CONNECT_TIMEOUT },
	{ "idle-timeout", required_argument, NULL, OPT_IDLE_TIMEOUT },
	{ "half-closed-timeout", required_argument, NULL, OPT_HALF_CLOSED_TIMEOUT },
	{ "drain-timeout", required_argument, NULL, OPT_DRAIN_TIMEOUT },
	{ "max-connections", required_argument, NULL, OPT_MAX_CONNECTIONS },
	{ "error-memory", required_argument, NULL, OPT_ERROR_MEMORY },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{},
};

static void print_help(void)
{
	printf("Usage: tproxy-relay [OPTION]...\n"
	       "\n"
	       "Serves the connections that tproxy-load's programs redirect: registers in the\n"
	       "pinned maps, accepts, connects to the original destination, relays.\n"
	       "\n"
	       "  -p, --pin-dir DIR               where tproxy-load pinned (default: %s)\n"
	       "  -l, --listen ADDR:PORT          port 0: any; one for IPv4 and one for IPv6, as\n"
	       "                                  [ADDR]:PORT (default: 127.0.0.1:0 and [::1]:0)\n"
	       "  -w, --workers N                 threads, 1 to %d (default: one per CPU)\n"
	       "      --connect-timeout DURATION  to reach the destination (default: 30s)\n"
	       "      --idle-timeout DURATION     without a byte either way (default: 1h)\n"
	       "      --half-closed-timeout DURATION\n"
	       "                                  the same, once one side has ended (default: 5m)\n"
	       "      --drain-timeout DURATION    for running connections after SIGTERM\n"
	       "                                  (default: 30s)\n"
	       "      --max-connections N         at a time (default: as descriptors allow)\n"
	       "      --error-memory DURATION     how long connect() to a destination that could not\n"
	       "                                  be reached fails at once; 0: never (default: 1s)\n"
	       "  -v, --verbose                   one line for each connection\n"
	       "  -h, --help                      print this\n"
	       "      --version                   print the version and that of the pinned maps\n"
	       "\n"
	       "DURATION is a number with ms, s, m or h; without a unit, seconds.\n",
	       TPROXY_PIN_DIR, OPTIONS_WORKERS_MAX);
}

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

static int parse_duration_option(const char *name, const char *value, uint64_t *ret_ms)
{
	if (parse_duration_ms(value, ret_ms) < 0)
		return usage_error(
			"--%s: '%s' is not a duration from 1ms to 168h, such as 500ms, 10s, 5m",
			name, value);
	return 0;
}

static int parse_number_option(const char *name, const char *value, uint32_t min, uint32_t max,
			       uint32_t *ret_value)
{
	if (parse_u32(value, min, max, ret_value) < 0)
		return usage_error("--%s: '%s' is not a number from %u to %u", name, value, min,
				   max);
	return 0;
}

static int parse_listen_option(const char *value, struct options *o)
{
	union sockaddr_any addr;
	enum tproxy_family family;

	if (parse_endpoint(value, &addr) < 0)
		return usage_error(
			"--listen: '%s' is not ADDR:PORT, such as 127.0.0.1:0 or [::1]:0", value);
	family = addr.sa.sa_family == AF_INET6 ? TPROXY_INET6 : TPROXY_INET;
	if (o->listen_given[family])
		return usage_error("--listen: '%s' is the second one of its family", value);
	o->listen[family] = addr;
	o->listen_given[family] = true;
	return 0;
}

static int parse_one(int c, const char *arg, struct options *o)
{
	switch (c) {
	case 'p':
		if (!*arg)
			return usage_error("--pin-dir: the path is empty");
		o->pin_dir = arg;
		return 0;
	case 'l':
		return parse_listen_option(arg, o);
	case 'w':
		return parse_number_option("workers", arg, 1, OPTIONS_WORKERS_MAX, &o->workers);
	case OPT_CONNECT_TIMEOUT:
		return parse_duration_option("connect-timeout", arg, &o->connect_timeout_ms);
	case OPT_IDLE_TIMEOUT:
		return parse_duration_option("idle-timeout", arg, &o->idle_timeout_ms);
	case OPT_HALF_CLOSED_TIMEOUT:
		return parse_duration_option("half-closed-timeout", arg,
					     &o->half_closed_timeout_ms);
	case OPT_DRAIN_TIMEOUT:
		return parse_duration_option("drain-timeout", arg, &o->drain_timeout_ms);
	case OPT_MAX_CONNECTIONS:
		return parse_number_option("max-connections", arg, 1, 10000000,
					   &o->max_connections);
	case OPT_ERROR_MEMORY:
		if (strcmp(arg, "0") == 0) {
			o->error_memory_ms = 0;
			return 0;
		}
		return parse_duration_option("error-memory", arg, &o->error_memory_ms);
	case 'v':
		o->verbose = true;
		return 0;
	}
	return -EINVAL;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
	struct options o = {
		.pin_dir = TPROXY_PIN_DIR,
				.listen[TPROXY_INET].in = {
			.sin_family = AF_INET,
			.sin_addr = { htonl(INADDR_LOOPBACK) },
		},
		.listen[TPROXY_INET6].in6 = {
			.sin6_family = AF_INET6,
			.sin6_addr = IN6ADDR_LOOPBACK_INIT,
		},
		.workers = default_workers(),
		.connect_timeout_ms = 30 * 1000,
		.idle_timeout_ms = 3600 * 1000,
		.half_closed_timeout_ms = 300 * 1000,
		.drain_timeout_ms = 30 * 1000,
		.error_memory_ms = 1000,
	};
	int c, r;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":p:l:w:vh", long_options, NULL)) != -1) {
		switch (c) {
		case 'h':
			print_help();
			return 1;
		case OPT_VERSION:
			printf("tproxy-relay %s, ABI version %d\n", TPROXY_VERSION,
			       TPROXY_ABI_VERSION);
			return 1;
		case ':':
			return usage_error("option '%s' wants a value", argv[optind - 1]);
		case '?':
			return usage_error("unknown option '%s'", argv[optind - 1]);
		}
		r = parse_one(c, optarg, &o);
		if (r < 0)
			return r;
	}
	if (optind < argc)
		return usage_error("unexpected argument '%s'", argv[optind]);
	*ret_options = o;
	return 0;
}
