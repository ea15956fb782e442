// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl capture: the packets of the connections of the scopes, with the programs that they
 * belong to. Writes a line for each packet, or pcapng files.
 *
 * The socket filter tests the simple filter options. Whether a connection is wanted is decided
 * here, by its first packet (filter.h); the socket filter then keeps the others out. The socket
 * receives before the connections are published, so no SYN is missed.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "capture/flows.h"
#include "capture/output.h"
#include "capture/packet.h"
#include "capture/tap.h"
#include "commands.h"
#include "conn_row.h"
#include "escape.h"
#include "filter.h"
#include "host/address.h"
#include "host/namespaces.h"
#include "log.h"
#include "options.h"
#include "state/maps.h"
#include "tproxy_abi.h"
#include "util.h"
#include "version.h"

#define NS_PER_S 1000000000ULL
/* Limit of the time for reading the packets that are in the ring at the end. */
#define DRAIN_NS (5 * NS_PER_S)
/* Least number of bytes to capture of each packet, so that its connection is found. */
#define SNAP_MIN 128
/* Number of interfaces whose names are cached. */
#define NAMES 64

static const struct ctl_usage usage = {
	.command = CTL_CAPTURE,
	.synopsis = "[-w FILE [-C SIZE [-W NUMBER]]] [-c NUMBER] [-s SIZE] [FILTER]... [-p DIR]",
	.about =
		"Captures the packets of the connections of the scopes, or of those that pass the\n"
		"filters, in this network namespace. Both legs of a redirected connection are\n"
		"captured: to the relay, and from the relay to the server.\n" FILTER_ABOUT,
};

struct capture {
	const struct ctl_options *options;
	struct flows *flows;
	struct tap *tap;
	struct output output; /* with -w */
	uint64_t begin_ns;
	uint64_t n_packets, n_ipv6, n_unknown;
	int error; /* -errno of the output, logged */
	bool unloaded;
	struct {
		int index;
		char name[IF_NAMESIZE];
	} names[NAMES];
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	stopped = 1;
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* The result is valid until the next call. */
static const char *interface_name(struct capture *c, int index)
{
	const size_t at = (size_t)index % NAMES;

	if (c->names[at].index != index) {
		if (!if_indextoname((unsigned int)index, c->names[at].name))
			snprintf(c->names[at].name, IF_NAMESIZE, "if%d", index);
		c->names[at].index = index;
	}
	return c->names[at].name;
}

static const char *leg_name(uint32_t leg)
{
	static const char *const names[_TPROXY_LEG_MAX] = {
		[TPROXY_LEG_CLIENT] = "client",
		[TPROXY_LEG_UPSTREAM] = "upstream",
		[TPROXY_LEG_DIRECT] = "direct",
		[TPROXY_LEG_OBSERVED] = "observed",
	};

	return leg < _TPROXY_LEG_MAX ? names[leg] : "?";
}

static enum conn_verdict verdict_of(uint32_t leg)
{
	if (leg == TPROXY_LEG_DIRECT)
		return CONN_DIRECT;
	return leg == TPROXY_LEG_OBSERVED ? CONN_OBSERVED : CONN_REDIRECTED;
}

/* Returns true if the filters let the connection pass. Called once for each connection. */
static bool is_wanted(struct capture *c, struct flow *flow)
{
	const struct tproxy_flow *of = &flow->of;
	struct conn_row row = {
		.id = of->cookie,
		.cgroup_id = of->cgroup_id,
		.netns_cookie = flows_netns_cookie(c->flows),
		.pid = of->pid,
		.uid = of->uid,
		.verdict = verdict_of(of->leg),
		.src = of->src,
		.dst = of->dst,
	};

	if (flow->verdict == FLOW_UNDECIDED) {
		memcpy(row.comm, of->comm, sizeof(of->comm));
		flow->verdict =
			filter_matches(&c->options->filter, &row) ? FLOW_WANTED : FLOW_REFUSED;
		if (flow->verdict == FLOW_REFUSED)
			tap_refuse(c->tap, of->cookie);
	}
	return flow->verdict == FLOW_WANTED;
}

/* Writes "COMMAND[PID]", or "?" for an unknown process. */
#define PROGRAM_LEN (ESCAPE_LEN(TPROXY_COMM_LEN) + 16)
static char *program_of(const struct flow *flow, char buf[PROGRAM_LEN])
{
	char comm[ESCAPE_LEN(TPROXY_COMM_LEN)];

	if (!flow)
		return strcpy(buf, "?");
	escape_text(flow->of.comm, sizeof(flow->of.comm), comm, sizeof(comm));
	snprintf(buf, PROGRAM_LEN, "%s[%u]", comm, flow->of.pid);
	return buf;
}

/* Prints a packet in one line, the headers of TCP as tcpdump does. */
static void print_packet(struct capture *c, const struct tap_packet *tapped,
			 const struct packet *packet, const struct flow *flow)
{
	char src[ADDRESS_ENDPOINT_LEN], dst[ADDRESS_ENDPOINT_LEN], flags[PACKET_FLAGS_LEN];
	char program[PROGRAM_LEN], id[CONN_ROW_ID_LEN] = "?", time[16] = "";
	const time_t seconds = (time_t)(tapped->time_ns / NS_PER_S);
	struct tm local;

	if (localtime_r(&seconds, &local))
		strftime(time, sizeof(time), "%H:%M:%S", &local);
	if (flow)
		conn_row_id(flow->of.cookie, id);
	printf("%s.%06u %-6s %-22s %-6s %-8s %s > %s: ", time,
	       (unsigned int)(tapped->time_ns % NS_PER_S / 1000),
	       interface_name(c, tapped->link->sll_ifindex), program_of(flow, program), id,
	       flow ? leg_name(flow->of.leg) : "?", address_format_endpoint(&packet->src, src),
	       address_format_endpoint(&packet->dst, dst));
	if (!packet->has_tcp) {
		printf("cut, length %u\n", tapped->len);
		return;
	}
	printf("Flags [%s], seq %u", packet_format_flags(packet->flags, flags), packet->seq);
	if (packet->flags & PACKET_ACK)
		printf(", ack %u", packet->ack);
	printf(", win %u, length %u\n", packet->window, packet->payload);
}

static struct pcapng_statistics statistics_of(struct capture *c)
{
	struct pcapng_statistics s = { .begin_ns = c->begin_ns, .end_ns = now_ns(CLOCK_REALTIME) };

	tap_count(c->tap, &s.received, &s.dropped);
	return s;
}

static int write_packet(struct capture *c, const struct tap_packet *tapped,
			const struct packet *packet, const struct flow *flow)
{
	const uint32_t snap = c->options->snap_length;
	char comment[256], program[PROGRAM_LEN], id[CONN_ROW_ID_LEN], dst[ADDRESS_ENDPOINT_LEN];
	char comm[ESCAPE_LEN(TPROXY_COMM_LEN)];
	struct pcapng_packet out = {
		.time_ns = tapped->time_ns,
		.ifindex = tapped->link->sll_ifindex,
		.ifname = interface_name(c, tapped->link->sll_ifindex),
		.ether_type = packet->ipv6 ? ETH_P_IPV6 : ETH_P_IP,
		.hardware = tapped->link->sll_hatype,
		.packet_type = tapped->link->sll_pkttype,
		.address_len = tapped->link->sll_halen,
		.data = tapped->data,
		.captured = tapped->captured < snap ? tapped->captured : snap,
		.len = tapped->len,
	};

	memcpy(out.address, tapped->link->sll_addr, sizeof(out.address));
	if (flow) {
		snprintf(comment, sizeof(comment), "%s uid=%u id=%s leg=%s dst=%s",
			 program_of(flow, program), flow->of.uid, conn_row_id(flow->of.cookie, id),
			 leg_name(flow->of.leg), address_format_endpoint(&flow->of.dst, dst));
		out.comment = comment;
		out.pid = flow->of.pid;
		out.process = escape_text(flow->of.comm, sizeof(flow->of.comm), comm, sizeof(comm));
		out.outgoing = flow->outgoing;
		/* On lo both directions look received. */
		if (out.packet_type == PACKET_HOST && flow->outgoing)
			out.packet_type = PACKET_OUTGOING;
	}
	return output_packet(&c->output, &out);
}

/* Finishes a full file. Returns 0 or -errno, logged. */
static int rotate(struct capture *c)
{
	struct pcapng_statistics statistics;

	if (!output_is_full(&c->output))
		return 0;
	statistics = statistics_of(c);
	return output_next(&c->output, &statistics);
}

/* Returns a value other than 0 at the end of the capture. */
static int on_packet(const struct tap_packet *tapped, void *data)
{
	struct capture *c = data;
	struct flow *flow;
	struct packet packet;

	if (!packet_parse(tapped->data, tapped->captured, tapped->len, &packet))
		return 0;
	flow = flows_find(c->flows, &packet);
	if (flow && !is_wanted(c, flow))
		return 0;
	if (!flow && !filter_is_empty(&c->options->filter)) {
		c->n_unknown++;
		return 0;
	}
	c->n_packets++;
	c->n_ipv6 += packet.ipv6;
	if (*c->options->write) {
		c->error = rotate(c);
		if (c->error == 0)
			c->error = write_packet(c, tapped, &packet, flow);
	} else {
		print_packet(c, tapped, &packet, flow);
	}
	return c->error || (c->options->count && c->n_packets >= c->options->count);
}

/* Reads the packets that wait. Returns a value other than 0 at the end of the capture. */
static int read_packets(struct capture *c)
{
	int r = tap_read(c->tap, on_packet, c);

	if (*c->options->write) {
		if (c->error == 0)
			c->error = output_flush(&c->output);
	} else if (fflush(stdout) != 0) {
		log_answer_failed();
		c->error = -EIO;
	}
	return r || c->error;
}

/* After a signal: reads the packets that had passed the filter by then. */
static void drain(struct capture *c)
{
	const uint64_t end_ns = now_ns(CLOCK_MONOTONIC) + DRAIN_NS;
	struct pollfd ready = { .fd = tap_fd(c->tap), .events = POLLIN };

	flows_tick(c->flows);
	if (tap_stop(c->tap) < 0)
		return;
	while (!tap_is_drained(c->tap) && now_ns(CLOCK_MONOTONIC) < end_ns) {
		poll(&ready, 1, 10);
		if (read_packets(c))
			return;
		flows_tick(c->flows);
	}
}

static void run(struct capture *c, const sigset_t *unblocked)
{
	const struct timespec tick = { .tv_nsec = FLOWS_TICK_MS * 1000000L };
	struct pollfd ready = { .fd = tap_fd(c->tap), .events = POLLIN };
	uint64_t ticked_ns = 0;

	while (!stopped) {
		if (now_ns(CLOCK_MONOTONIC) - ticked_ns >= FLOWS_TICK_MS * 1000000ULL) {
			if (!flows_are_pinned(c->flows)) {
				log_err("'%s' was unloaded", c->options->pin_dir);
				c->unloaded = true;
				break;
			}
			flows_tick(c->flows);
			ticked_ns = now_ns(CLOCK_MONOTONIC);
		}
		ppoll(&ready, 1, &tick, unblocked);
		if (read_packets(c))
			return;
	}
	drain(c);
}

static void report(struct capture *c)
{
	uint64_t received, dropped;

	tap_count(c->tap, &received, &dropped);
	log_info("captured %" PRIu64 " packet%s: IPv4 %" PRIu64 ", IPv6 %" PRIu64 "; %" PRIu64
		 " dropped",
		 c->n_packets, c->n_packets == 1 ? "" : "s", c->n_packets - c->n_ipv6, c->n_ipv6,
		 dropped);
	if (c->n_unknown)
		log_info("%" PRIu64
			 " packets are left out, because their connections are not known any more",
			 c->n_unknown);
	if (flows_have_stalled(c->flows))
		log_info(
			"the capture was stopped for more than 5 s: connections that began meanwhile are missing");
	else if (flows_missed(c->flows))
		log_info("%" PRIu64 " connections were not captured: there were too many at a time",
			 flows_missed(c->flows));
}

/* Blocks the signals that end a capture, except while it waits. */
static void catch_signals(sigset_t *ret_unblocked)
{
	const struct sigaction stop = { .sa_handler = on_signal };
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t blocked;
	size_t i;

	sigemptyset(&blocked);
	for (i = 0; i < ARRAY_SIZE(ends); i++)
		sigaddset(&blocked, ends[i]);
	sigprocmask(SIG_BLOCK, &blocked, ret_unblocked);
	for (i = 0; i < ARRAY_SIZE(ends); i++)
		sigaction(ends[i], &stop, NULL);
	/* A reader of stdout that goes away must not leave the maps filled. */
	sigaction(SIGPIPE, &ignore, NULL);
}

static int open_output(struct capture *c)
{
	const struct ctl_options *o = c->options;
	const struct output_options options = {
		.path = o->write,
		.program = "tproxyctl " TPROXY_VERSION,
		.file_size = o->file_size,
		.n_files = o->n_files,
		.snap_length = o->snap_length,
	};

	if (!*o->write)
		return 0;
	if (strcmp(o->write, "-") == 0 && isatty(STDOUT_FILENO)) {
		log_err("stdout is a terminal, which cannot show pcapng; leave out -w, or write to a file or a pipe");
		return -ENOTTY;
	}
	return output_open(&options, &c->output);
}

/* Kinds of filter options with more values than the socket filter takes are left out. */
static void set_tap_filter(const struct conn_filter *filter, struct tap_filter *ret_filter)
{
	struct tap_filter tap = {};
	size_t i;

	if (filter->n_pids <= TAP_VALUES_MAX)
		tap.n_pids = filter->n_pids;
	if (filter->n_uids <= TAP_VALUES_MAX)
		tap.n_uids = filter->n_uids;
	if (filter->n_ports <= TAP_VALUES_MAX)
		tap.n_ports = filter->n_ports;
	if (filter->n_commands <= TAP_VALUES_MAX)
		tap.n_commands = filter->n_commands;
	for (i = 0; i < TAP_VALUES_MAX; i++) {
		tap.pids[i] = filter->pids[i];
		tap.uids[i] = filter->uids[i];
		tap.first_ports[i] = filter->ports[i].first;
		tap.last_ports[i] = filter->ports[i].last;
		tap.commands[i] = filter->commands[i];
	}
	*ret_filter = tap;
}

static int open_all(struct capture *c)
{
	const uint32_t snap = c->options->snap_length;
	struct tap_filter filter;
	const char *what;
	int r;

	r = flows_open(c->options->pin_dir, &c->flows);
	if (r < 0)
		return r;
	set_tap_filter(&c->options->filter, &filter);
	r = tap_open(flows_fd(c->flows), flows_netns_cookie(c->flows),
		     snap < SNAP_MIN ? SNAP_MIN : snap, &filter, &c->tap, &what);
	if (r < 0) {
		log_err("%s: %s%s", what, strerror(-r),
			r == -EPERM
				? "; capturing needs root, or CAP_NET_RAW, CAP_BPF and CAP_PERFMON"
				: "");
		return r;
	}
	r = open_output(c);
	if (r == 0)
		r = flows_start(c->flows);
	return r;
}

static void finish(struct capture *c)
{
	output_close(&c->output);
	tap_close(c->tap);
	flows_close(c->flows);
}

static int capture(const struct ctl_options *options)
{
	_cleanup_(finish) struct capture c = {
		.options = options,
		.begin_ns = now_ns(CLOCK_REALTIME),
	};
	struct pcapng_statistics statistics;
	sigset_t unblocked;
	int r;

	catch_signals(&unblocked);
	r = open_all(&c);
	if (r < 0)
		return r;
	log_info("capturing%s%s; Ctrl-C ends it", *options->write ? " to " : "", options->write);
	run(&c, &unblocked);
	statistics = statistics_of(&c);
	if (c.error == 0 && *options->write)
		c.error = output_end(&c.output, &statistics);
	report(&c);
	if (c.error == 0 && c.unloaded)
		return -ENOENT;
	/* The reader of a pipe has seen enough. */
	return c.error == -EPIPE ? 0 : c.error;
}

int ctl_capture(int argc, char **argv)
{
	struct ctl_options options;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	r = maps_check_loaded(options.pin_dir);
	if (r == 0)
		r = filter_prepare(&options.filter);
	if (r == 0)
		r = capture(&options);
	filter_finish(&options.filter);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
