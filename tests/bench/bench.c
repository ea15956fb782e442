/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tproxy-bench: the load generator of run.py, client and server in one program.
 *
 * It uses libc and threads only, so that nothing but the relay under test stands between the two. A
 * client prints one JSON object: numbers if the run succeeded, a reason if it failed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "client.h"
#include "pair.h"
#include "pattern.h"
#include "run.h"
#include "server.h"
#include "shape.h"

#define SECONDS_DEFAULT 10
#define BUFFERS_MAX	(1024 * 1024)

static const char usage[] =
	"Usage: tproxy-bench server ADDR:PORT [--buffers N] [--threads N]\n"
	"       tproxy-bench shapes\n"
	"       tproxy-bench WORKLOAD ADDR:PORT [OPTION]...\n"
	"\n"
	"Workloads:\n"
	"  rr         64-byte requests and responses on one connection\n"
	"  crr        connect, request and response, close\n"
	"  connect    connect to a listener of its own at ADDR:PORT, close by reset\n"
	"  hold       open all connections, keep them until end of file on stdin\n"
	"  bulk-up    send for a time, the server checks\n"
	"  bulk-down  receive for a time, check\n"
	"  refused    connect to a port that refuses\n"
	"  shape      exchanges of one shape: how both sides write, and socket options\n"
	"\n"
	"Options:\n"
	"  --count N     exchanges or connections of all but bulk-up and bulk-down (10000)\n"
	"  --clients N   of crr and refused, all at once (1)\n"
	"  --streams N   of bulk-up and bulk-down, all at once (1)\n"
	"  --seconds N   that bulk-up and bulk-down last (10), hold at most (10), rr and\n"
	"                shape at most (no limit)\n"
	"  --pause-us N  between two exchanges of rr, in microseconds (none)\n"
	"  --addresses N of connect, used in turn: every 16381st from ADDR on (1)\n"
	"  --shape NAME  one of those that 'tproxy-bench shapes' prints\n"
	"  --cgroups OURS,BASE   of rr, crr, bulk-up and bulk-down: use sockets of these two\n"
	"                cgroups by turns; --count is that of each\n"
	"  --burst N     exchanges or connections of a turn (20 of rr, 10 of crr)\n"
	"  --threads N   of the server (one for each CPU)\n"
	"  --buffers N   SO_SNDBUF and SO_RCVBUF of the server's listener, in bytes\n"
	"  --help        this text\n";

static bool parse_number(const char *text, unsigned int max, unsigned int *ret_number)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || number < 1 || number > max)
		return false;
	*ret_number = (unsigned int)number;
	return true;
}

static bool parse_address(const char *text, struct sockaddr_in *ret_address)
{
	const char *colon = strchr(text, ':');
	char host[INET_ADDRSTRLEN];
	unsigned int port;

	if (!colon || (size_t)(colon - text) >= sizeof(host) ||
	    !parse_number(colon + 1, UINT16_MAX, &port))
		return false;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	*ret_address =
		(struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	return inet_pton(AF_INET, host, &ret_address->sin_addr) == 1;
}

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "tproxy-bench: %s \"%s\". Try 'tproxy-bench --help'.\n", what, value);
	return 2;
}

/* The workload hold opens tens of thousands of idle connections. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* An option whose argument is a number. */
struct number {
	int opt; /* 0 = end of the list */
	unsigned int max;
	unsigned int *value;
	const char *error;
};

static const struct number *number_of(const struct number *numbers, int opt)
{
	for (; numbers->opt; numbers++) {
		if (numbers->opt == opt)
			return numbers;
	}
	return NULL;
}

static int parse_options(int argc, char **argv, struct client_options *options,
			 struct server_options *server)
{
	static const struct option longopts[] = {
		{ "count", required_argument, NULL, 'n' },
		{ "clients", required_argument, NULL, 'c' },
		{ "streams", required_argument, NULL, 'c' },
		{ "seconds", required_argument, NULL, 's' },
		{ "pause-us", required_argument, NULL, 'p' },
		{ "addresses", required_argument, NULL, 'a' },
		{ "shape", required_argument, NULL, 'f' },
		{ "cgroups", required_argument, NULL, 'g' },
		{ "burst", required_argument, NULL, 'u' },
		{ "threads", required_argument, NULL, 't' },
		{ "buffers", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const struct number numbers[] = {
		{ 'n', CLIENT_COUNT_MAX, &options->count, "bad count" },
		{ 'c', CLIENT_CLIENTS_MAX, &options->clients, "bad number of clients" },
		{ 's', CLIENT_SECONDS_MAX, &options->seconds, "bad number of seconds" },
		{ 'p', CLIENT_PAUSE_US_MAX, &options->pause_us, "bad pause" },
		{ 'a', CLIENT_ADDRESSES_MAX, &options->addresses, "bad number of addresses" },
		{ 'u', CLIENT_BURST_MAX, &options->burst, "bad burst" },
		{ 'b', BUFFERS_MAX, &server->buffers, "bad size" },
		{ 't', CLIENT_CLIENTS_MAX, &server->threads, "bad number of threads" },
		{ 0, 0, NULL, NULL },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
		const struct number *number = number_of(numbers, opt);

		if (number) {
			if (!parse_number(optarg, number->max, number->value))
				return usage_error(number->error, optarg);
			continue;
		}
		switch (opt) {
		case 'f':
			options->shape = shape_find(optarg);
			if (!options->shape)
				return usage_error("no such shape", optarg);
			break;
		case 'g':
			pair_open(optarg, options);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			return 2;
		}
	}
	return 0;
}

/* Checks the options that belong to one workload only, and runs it. */
static void run_workload(enum workload workload, struct client_options *options)
{
	bool shape = workload == WORKLOAD_SHAPE;

	if (shape != (options->shape != NULL) || (shape && options->clients != 1)) {
		fputs("tproxy-bench: --shape goes with the workload shape, which has one client\n",
		      stderr);
		exit(2);
	}
	if (options->pair && (workload == WORKLOAD_CONNECT || workload == WORKLOAD_HOLD || shape ||
			      workload == WORKLOAD_REFUSED || options->clients != 1)) {
		fputs("tproxy-bench: --cgroups goes with one client of rr, crr or bulk\n", stderr);
		exit(2);
	}
	if (options->seconds == 0 && workload != WORKLOAD_RR && !shape)
		options->seconds = SECONDS_DEFAULT;
	run_clients(workload, options);
}

int main(int argc, char **argv)
{
	struct client_options options = { .count = 10000, .clients = 1, .addresses = 1 };
	struct server_options server = { .buffers = 0 };
	int r = parse_options(argc, argv, &options, &server);

	if (r)
		return r;
	if (argc - optind == 1 && strcmp(argv[optind], "shapes") == 0) {
		shape_list();
		return 0;
	}
	if (argc - optind != 2) {
		fputs("tproxy-bench: give a command and ADDR:PORT. Try 'tproxy-bench --help'.\n",
		      stderr);
		return 2;
	}
	if (!parse_address(argv[optind + 1], &options.address))
		return usage_error("bad address", argv[optind + 1]);

	pattern_init();
	raise_descriptor_limit();
	if (strcmp(argv[optind], "server") == 0)
		server_run(&options.address, &server);
	for (enum workload w = 0; w < _WORKLOAD_MAX; w++) {
		if (strcmp(argv[optind], workload_names[w]) == 0)
			run_workload(w, &options);
	}
	return usage_error("no such command", argv[optind]);
}
