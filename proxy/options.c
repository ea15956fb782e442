// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The options of tproxy-relay: the table, the values that need a parser of their own, and the
 * options that depend on each other. common/optparse.c does the rest. Every option is in
 * tproxy-relay.8.scd too.
 */
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "log.h"
#include "optable.h"
#include "optparse.h"
#include "parse.h"
#include "tproxy_abi.h"
#include "upstream/config.h"
#include "upstream/names.h"
#include "upstream_id.h"
#include "util.h"
#include "version.h"

/* Default number of listeners of all workers, per family. Their ports take more connections than
 * map_socks, see tproxy_abi.h. */
#define LISTENERS_LEAST 4
/* Limit of TCP_KEEPIDLE, 32767 s, in whole hours. */
#define KEEPALIVE_MAX_MS (9 * 3600 * 1000)
#define CONNECTIONS_MAX	 10000000
#define WHERE_LEN	 (PATH_MAX + 16)

/* Returns why no client could connect to a listener of this address, or NULL. */
static const char *why_no_listener(const union sockaddr_any *addr)
{
	const struct in6_addr *a6 = &addr->in6.sin6_addr;
	const in_addr_t a4 = ntohl(addr->in.sin_addr.s_addr);

	if (addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(a6))
		return "an IPv4 address in IPv6 form; write it as A.B.C.D:PORT";
	if (addr->sa.sa_family == AF_INET6 ? IN6_IS_ADDR_MULTICAST(a6) : IN_MULTICAST(a4))
		return "a multicast address, to which no client can connect";
	if (addr->sa.sa_family == AF_INET && a4 == INADDR_BROADCAST)
		return "a broadcast address, to which no client can connect";
	return NULL;
}

static int set_listen(const struct optable_row *row, void *options, const char *value,
		      unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	const enum options_source source = line ? OPTIONS_FROM_FILE : OPTIONS_FROM_COMMAND_LINE;
	struct options *o = options;
	char text[FORMAT_ENDPOINT_LEN];
	union sockaddr_any addr;
	enum tproxy_family family;
	const char *why;

	if (parse_endpoint(value, &addr) < 0)
		return optable_refuse(
			error,
			"'%s' is not ADDR:PORT, such as 127.0.0.1:0 or [::1]:0: ADDR must be numeric, an IPv6 one in brackets, PORT 0 to 65535",
			value);
	why = why_no_listener(&addr);
	if (why)
		return optable_refuse(error, "'%s' is %s", value, why);
	family = addr.sa.sa_family == AF_INET6 ? TPROXY_INET6 : TPROXY_INET;
	if (o->listen_given[family] == source)
		return optable_refuse(error, "'%s': an %s address was already given: '%s'", value,
				      family == TPROXY_INET6 ? "IPv6" : "IPv4",
				      format_endpoint(&o->listen[family], text));
	o->listen[family] = addr;
	o->listen_given[family] = source;
	return 0;
}

static int set_admin(const struct optable_row *row, void *options, const char *value,
		     unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct options *o = options;
	const char *why = admin_address_parse(value, &o->admin);

	return why ? optable_refuse(error, "'%s' is %s", value, why) : 0;
}

static int set_default_upstream(const struct optable_row *row, void *options, const char *value,
				unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct options *o = options;

	if (!upstream_name_is_valid(value, strlen(value)))
		return optable_refuse(
			error,
			"'%s' is not the name of an upstream: 1 to %d letters, digits, '-' and '_'",
			value, UPSTREAM_NAME_LEN - 1);
	strcpy(o->upstreams.default_name, value);
	return 0;
}

static int add_sniff_port(struct upstreams_conf *conf, const char *text,
			  char error[OPTABLE_ERROR_LEN])
{
	uint32_t port;
	size_t i;

	if (parse_u32(text, 1, UINT16_MAX, &port) < 0)
		return optable_refuse(error, "'%s' is not a port from 1 to 65535; write 80,443",
				      text);
	for (i = 0; i < conf->n_sniff_ports; i++) {
		if (conf->sniff_ports[i] == port)
			return optable_refuse(error, "port %u is given twice", port);
	}
	if (conf->n_sniff_ports == ARRAY_SIZE(conf->sniff_ports))
		return optable_refuse(error, "there are more than %zu ports",
				      ARRAY_SIZE(conf->sniff_ports));
	conf->sniff_ports[conf->n_sniff_ports++] = (uint16_t)port;
	return 0;
}

/* "80,443", with or without blanks. */
static int set_sniff_ports(const struct optable_row *row, void *options, const char *value,
			   unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct options *o = options;
	char text[OPTABLE_VALUE_LEN];
	size_t len;
	int r = 0;

	o->upstreams.n_sniff_ports = 0;
	for (; r == 0; value += strspn(value, ", \t")) {
		len = strcspn(value, ", \t");
		snprintf(text, sizeof(text), "%.*s", (int)len, value);
		r = add_sniff_port(&o->upstreams, text, error);
		value += len;
		if (!*value)
			break;
	}
	return r;
}

static const char *const connection_logs[] = {
	[CONNLOG_NONE] = "none",
	[CONNLOG_TEXT] = "text",
	[CONNLOG_JSON] = "json",
	NULL,
};

static const struct optable_row rows[] = {
	{
		.name = "pin-dir",
		.short_name = 'p',
		.arg = "DIR",
		OPTABLE_PATH(struct options, pin_dir),
		.by_default = TPROXY_PIN_DIR,
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "where tproxy-load pinned",
	},
	{
		.name = "listen",
		.short_name = 'l',
		.arg = "ADDR:PORT",
		OPTABLE_CUSTOM(set_listen),
		OPTABLE_MEMBER(struct options, listen, union sockaddr_any[_TPROXY_FAMILY_MAX]),
		.default_text = "127.0.0.1:0 and [::1]:0",
		.flags = OPTABLE_KEY | OPTABLE_FIXED | OPTABLE_REPEATED,
		.help = "address to listen on; one for IPv4 and one for IPv6, as [ADDR]:PORT; with port 0 the kernel chooses",
	},
	{
		.name = "workers",
		.short_name = 'w',
		.arg = "N",
		OPTABLE_NUMBER(struct options, workers, 1, OPTIONS_WORKERS_MAX),
		.default_text = "one per CPU",
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "number of worker threads",
	},
	{
		.name = "listeners",
		.arg = "N",
		OPTABLE_NUMBER(struct options, listeners, 1, TPROXY_PORTS_MAX),
		.default_text = "enough for 4 ports in total; 1 with a port in --listen",
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "listening sockets of each worker; per family, each with a port of its own",
	},
	{
		.name = "backlog",
		.arg = "N",
		OPTABLE_NUMBER(struct options, backlog, 1, 65535),
		.by_default = "4096",
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "clients that may wait at each listening socket",
	},
	{
		.name = "busy-poll",
		.arg = "N",
		OPTABLE_NUMBER(struct options, busy_poll_us, 0, 1000),
		.by_default = "100",
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "microseconds to spin for events before sleeping; 0: sleep at once",
	},
	{
		.name = "connect-timeout",
		.arg = "DURATION",
		OPTABLE_DURATION(struct options, connect_timeout_ms),
		.by_default = "30s",
		.flags = OPTABLE_KEY,
		.help = "limit for reaching the destination",
	},
	{
		.name = "idle-timeout",
		.arg = "DURATION",
		OPTABLE_DURATION(struct options, idle_timeout_ms),
		.by_default = "1h",
		.flags = OPTABLE_KEY,
		.help = "limit without a byte in either direction",
	},
	{
		.name = "half-closed-timeout",
		.arg = "DURATION",
		OPTABLE_DURATION(struct options, half_closed_timeout_ms),
		.by_default = "5m",
		.flags = OPTABLE_KEY,
		.help = "limit without a byte once one side has sent its FIN",
	},
	{
		.name = "keepalive-time",
		.arg = "DURATION",
		OPTABLE_DURATION_IN(struct options, keepalive_ms, 1000, KEEPALIVE_MAX_MS),
		.unit = 1000,
		.by_default = "300s",
		.flags = OPTABLE_KEY,
		.help = "TCP keepalive idle time towards servers (TCP_KEEPIDLE); whole seconds",
	},
	{
		.name = "drain-timeout",
		.arg = "DURATION",
		OPTABLE_DURATION(struct options, drain_timeout_ms),
		.by_default = "30s",
		.flags = OPTABLE_KEY,
		.help = "limit for running connections after SIGTERM",
	},
	{
		.name = "drain-in-background",
		OPTABLE_FLAG(struct options, drain_in_background),
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "serve from a child process; on SIGTERM exit at once, the child serves until another relay has registered, and drains",
	},
	{
		.name = "max-connections",
		.arg = "N",
		OPTABLE_NUMBER(struct options, max_connections, 0, CONNECTIONS_MAX),
		.by_default = "0",
		.flags = OPTABLE_KEY,
		.help = "limit of connections at a time; 0: as many as descriptors allow",
	},
	{
		.name = "max-per-cgroup",
		.arg = "N",
		OPTABLE_NUMBER(struct options, max_per_cgroup, 0, CONNECTIONS_MAX),
		.by_default = "0",
		.flags = OPTABLE_KEY,
		.help = "limit of connections at a time per cgroup; 0: no limit",
	},
	{
		.name = "buffer-size",
		.arg = "SIZE",
		OPTABLE_SIZE(struct options, buffer_size, 4 << 10, 1 << 20),
		.by_default = "64K",
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "buffer per direction while the receiver is slow",
	},
	{
		.name = "pipe-size",
		.arg = "SIZE",
		OPTABLE_SIZE(struct options, pipe_size, 64 << 10, 1 << 20),
		.by_default = "512K",
		.flags = OPTABLE_KEY | OPTABLE_FIXED | OPTABLE_ZERO,
		.help = "pipe per direction of a bulk transfer; 0: copy them like other data",
	},
	{
		.name = "error-memory",
		.arg = "DURATION",
		OPTABLE_DURATION(struct options, error_memory_ms),
		.by_default = "1s",
		.flags = OPTABLE_KEY,
		.help = "how long connect() to a destination that could not be reached fails at once",
	},
	{
		.name = "honest-connect",
		OPTABLE_FLAG(struct options, honest_connect),
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "connect() succeeds when the destination is reached, and fails with its error",
	},
	{
		.name = "pass-mark",
		OPTABLE_FLAG(struct options, pass_mark),
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "connect with the client's SO_MARK, for routing by mark; needs CAP_NET_RAW or CAP_NET_ADMIN",
	},
	{
		.name = "config",
		.short_name = 'f',
		.arg = "FILE",
		.type = OPTABLE_TYPE_CONFIG,
		OPTABLE_MEMBER(struct options, config, char[PATH_MAX]),
		.help = "read these options from section [relay] of a file; the command line takes precedence",
	},
	{
		.name = "connection-log",
		.arg = "FORMAT",
		OPTABLE_WORD(struct options, connection_log, enum connlog_format, connection_logs),
		.default_text = "none; text with -v",
		.flags = OPTABLE_KEY,
		.help = "log each connection when it ends; text to stderr, json to stdout",
	},
	{
		.name = "admin",
		.arg = "ADDRESS",
		OPTABLE_CUSTOM(set_admin),
		OPTABLE_MEMBER(struct options, admin, struct admin_address),
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
		.help = "serve a page and metrics over HTTP; ADDRESS is the path of a UNIX socket, or a loopback ADDR:PORT",
	},
	{
		.name = "default-upstream",
		.arg = "NAME",
		OPTABLE_CUSTOM(set_default_upstream),
		OPTABLE_MEMBER(struct options, upstreams.default_name, char[UPSTREAM_NAME_LEN]),
		.by_default = UPSTREAM_NAME_DIRECT,
		.flags = OPTABLE_KEY,
		.help = "the upstream of connections whose rule names none; direct: the original destination",
	},
	{
		.name = "sniff",
		OPTABLE_FLAG(struct options, upstreams.sniff),
		.default_text = "no; yes with [names] or send-name in the file",
		.flags = OPTABLE_KEY,
		.help = "find the name of the destination in the client's first bytes",
	},
	{
		.name = "sniff-ports",
		.arg = "PORTS",
		OPTABLE_CUSTOM(set_sniff_ports),
		OPTABLE_MEMBER(struct options, upstreams.sniff_ports, uint16_t[16]),
		.by_default = "80,443,8080,8443",
		.flags = OPTABLE_KEY,
		.help = "ports of destinations where the client sends first, separated by commas",
	},
	{
		.name = "sniff-ech",
		OPTABLE_FLAG(struct options, upstreams.sniff_ech),
		.flags = OPTABLE_KEY,
		.help = "let a name beside an encrypted one (ECH) choose the upstream",
	},
	{
		.name = "check",
		OPTABLE_FLAG(struct options, check),
		.help = "check the options and the file; change nothing",
	},
	{
		.name = "verbose",
		.short_name = 'v',
		OPTABLE_FLAG(struct options, verbose),
		.flags = OPTABLE_KEY,
		.help = "log more",
	},
	OPTABLE_ROW_HELP,
	OPTABLE_ROW_VERSION,
};

static int begin_section(void *options, const char *section, const char *name, unsigned int line,
			 char error[OPTABLE_ERROR_LEN])
{
	return upstream_reader_begin(((struct options *)options)->reader, section, name, line,
				     error);
}

static int set_in_section(void *options, const char *key, const char *value, unsigned int line,
			  char error[OPTABLE_ERROR_LEN])
{
	return upstream_reader_set(((struct options *)options)->reader, key, value, line, error);
}

static const struct optable table = {
	.program = "tproxy-relay",
	.version = TPROXY_VERSION,
	.section = "relay",
	.usage = "tproxy-relay [OPTION]...\n"
		 "       tproxy-relay --check [OPTION]...   check the options and the file\n",
	.about =
		"Serves the connections that the programs of tproxy-load redirect: registers in the\n"
		"pinned maps, accepts, connects to the original destination, relays.\n",
	.notes =
		"DURATION is a number with ms, s, m, h or d; without a unit, seconds; at most 168h.\n"
		"0: never, or no limit. SIZE is a number of bytes, or of KiB or MiB with K or M.\n",
	.begin_section = begin_section,
	.set_in_section = set_in_section,
	.rows = rows,
	.n_rows = ARRAY_SIZE(rows),
};

static uint32_t default_workers(void)
{
	cpu_set_t cpus;
	int n;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return 1;
	n = CPU_COUNT(&cpus);
	return n > OPTIONS_WORKERS_MAX ? OPTIONS_WORKERS_MAX : (uint32_t)n;
}

uint32_t options_listeners(const struct options *o, enum tproxy_family family)
{
	if (o->listeners)
		return o->listeners;
	if (o->listen[family].in.sin_port || o->workers >= LISTENERS_LEAST)
		return 1;
	return (LISTENERS_LEAST + o->workers - 1) / o->workers;
}

/* Writes "FILE:LINE: " of the last of two options in the file, or "" if neither is from there. */
static void format_where(const struct options *o, const struct optparse_given *given,
			 const char *name, const char *other, char text[WHERE_LEN])
{
	const unsigned int a = optparse_line(&table, given, name);
	const unsigned int b = optparse_line(&table, given, other);

	*text = '\0';
	if (a || b)
		snprintf(text, WHERE_LEN, "%s:%u: ", o->config, a > b ? a : b);
}

/*
 * The port of --admin must not be one of the n ports of a family. Both are shared with other
 * sockets of the user (SO_REUSEPORT), so the kernel would give clients of the one to the other.
 */
static int check_admin_port(const struct options *o, const struct optparse_given *given,
			    enum tproxy_family family, uint32_t n)
{
	const uint32_t first = ntohs(o->listen[family].in.sin_port);
	const uint32_t port = *o->admin.path ? 0 : ntohs(o->admin.tcp.in.sin_port);
	char addr[FORMAT_ENDPOINT_LEN], where[WHERE_LEN];

	if (first == 0 || port < first || port >= first + n)
		return 0;
	format_where(o, given, "admin", "listen", where);
	return optparse_usage_error(
		&table, "%sadmin: port %u is one of the ports of --listen: %u from %s on",
		*where ? where : "--", port, n, format_endpoint(&o->listen[family], addr));
}

/* Checks the options that depend on each other. Returns 0 or -EINVAL, logged. */
static int check(const struct options *o, const struct optparse_given *given)
{
	char addr[FORMAT_ENDPOINT_LEN], where[WHERE_LEN];
	enum tproxy_family family;
	uint32_t n, port;
	int r;

	for (family = 0; family < _TPROXY_FAMILY_MAX; family++) {
		n = o->workers * options_listeners(o, family);
		format_where(o, given, "workers", "listeners", where);
		if (n > TPROXY_PORTS_MAX)
			return optparse_usage_error(
				&table,
				"%s%u workers x %u listeners = %u; at most %d, see --workers and --listeners",
				where, o->workers, options_listeners(o, family), n,
				TPROXY_PORTS_MAX);
		port = ntohs(o->listen[family].in.sin_port);
		format_where(o, given, "listen", "listen", where);
		if (port && port + n - 1 > UINT16_MAX)
			return optparse_usage_error(
				&table, "%slisten: no %u ports from %s on, one for each listener",
				*where ? where : "--", n,
				format_endpoint(&o->listen[family], addr));
		r = check_admin_port(o, given, family, n);
		if (r)
			return r;
	}
	return 0;
}

/* Returns the line that needs the names of destinations, with what in it; or 0. */
static unsigned int line_with_names(const struct upstreams_conf *conf, const char **ret_what)
{
	struct names_match first;
	size_t i;

	*ret_what = "[names]";
	if (names_count(conf->names) > 0) {
		names_get(conf->names, 0, &first);
		return first.line;
	}
	*ret_what = "send-name";
	for (i = 0; i < conf->n; i++) {
		if (conf->list[i].send_name)
			return conf->list[i].line;
	}
	return 0;
}

/* Checks the sections of upstreams and of names, and the options that depend on them. */
static int check_upstreams(struct options *o, const struct optparse_given *given)
{
	struct upstreams_conf *conf = &o->upstreams;
	int r = upstream_reader_check(o->reader, o->config);
	char where[WHERE_LEN];
	unsigned int line;
	const char *what;

	if (!upstream_config_has(conf, conf->default_name)) {
		format_where(o, given, "default-upstream", "default-upstream", where);
		r = optparse_usage_error(&table, "%sdefault-upstream: there is no [upstream %s]",
					 *where ? where : "--", conf->default_name);
	}
	line = line_with_names(conf, &what);
	if (!optparse_has(&table, given->on_command_line | given->in_file, "sniff"))
		conf->sniff = line > 0;
	if (line && !conf->sniff) {
		format_where(o, given, "sniff", "sniff", where);
		r = optparse_usage_error(
			&table,
			"%ssniff: %s in line %u needs the names of destinations; remove one of them",
			*where ? where : "--", what, line);
	}
	return r;
}

const char *options_changed(const struct options *before, const struct options *after)
{
	struct options now = *after;
	enum tproxy_family family;
	bool same = true;

	/* The number may be given now and computed before, or the reverse. */
	for (family = 0; family < _TPROXY_FAMILY_MAX; family++)
		same &= options_listeners(before, family) == options_listeners(after, family);
	if (same)
		now.listeners = before->listeners;
	return optable_changed(&table, before, &now);
}

/* Sets what depends on other options, and checks them. Returns 0 or -EINVAL, logged. */
static int complete(struct options *o, const struct optparse_given *given)
{
	int r, one;

	o->config_has_others = given->file_has_others;
	o->workers_given = o->workers > 0;
	if (!o->workers_given)
		o->workers = default_workers();
	/* The negative cache is per destination, but an error may concern the route of one mark. */
	if (o->pass_mark)
		o->error_memory_ms = 0;
	if (!optparse_has(&table, given->on_command_line | given->in_file, "connection-log"))
		o->connection_log = o->verbose ? CONNLOG_TEXT : CONNLOG_NONE;
	r = check(o, given);
	one = check_upstreams(o, given);
	return r < 0 ? r : one;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
	struct options o = {};
	struct optparse_given given;
	int r;

	o.listen[TPROXY_INET].in.sin_family = AF_INET;
	o.listen[TPROXY_INET].in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	o.listen[TPROXY_INET6].in6.sin6_family = AF_INET6;
	o.listen[TPROXY_INET6].in6.sin6_addr = in6addr_loopback;
	o.reader = upstream_reader_create(&o.upstreams);
	if (!o.reader)
		return log_out_of_memory();
	r = optparse_read(&table, argc, argv, &o, &given);
	if (r == 0)
		r = complete(&o, &given);
	upstream_reader_destroy(o.reader);
	o.reader = NULL;
	if (r == 0)
		*ret_options = o;
	else
		options_finish(&o);
	return r;
}

void options_finish(struct options *options)
{
	upstreams_conf_finish(&options->upstreams);
}
