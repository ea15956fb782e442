// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See metrics_packets.h. What has passed a place is seen - dropped - invalid: it is no counter of
 * its own, because the three are not read at the same moment and a difference may go back.
 *
 * The cgroups in labels are those of the command line of tproxy-load, 256 at most. The cgroups
 * below them have no label: their number has no bound.
 */
#include "metrics_packets.h"

#include <inttypes.h>
#include <stddef.h>

#include "kernel/packets.h"
#include "promtext.h"
#include "util.h"

static const struct {
	const char *name, *help;
	size_t offset; /* in struct tproxy_block_stat */
} counters[] = {
	{ "tproxy_block_seen_total",
	  "connect() calls, or packets, that were looked up in the block list.",
	  offsetof(struct tproxy_block_stat, seen) },
	{ "tproxy_block_dropped_total", "The part of them that was refused or dropped.",
	  offsetof(struct tproxy_block_stat, dropped) },
	{ "tproxy_block_dropped_bytes_total", "Bytes of the dropped packets.",
	  offsetof(struct tproxy_block_stat, dropped_bytes) },
	{ "tproxy_block_invalid_total",
	  "Packets whose headers are cut or wrong; they are left to the kernel.",
	  offsetof(struct tproxy_block_stat, invalid) },
	{ "tproxy_block_allowed_total", "Passed by the allow list, otherwise dropped.",
	  offsetof(struct tproxy_block_stat, allowed) },
	{ "tproxy_block_control_total",
	  "Packets of ND, MLD, IGMP and DHCP that passed, otherwise dropped.",
	  offsetof(struct tproxy_block_stat, control) },
};

static void write_block(FILE *out, const struct packets *p)
{
	enum tproxy_place place;
	size_t i;

	promtext_head(
		out, "tproxy_block_entries", "gauge",
		"Entries of the list in force, with those that have ended and are not removed yet.");
	fprintf(out, "tproxy_block_entries{kind=\"block\"} %" PRIu32 "\n",
		p->n_entries[TPROXY_BLOCK]);
	fprintf(out, "tproxy_block_entries{kind=\"allow\"} %" PRIu32 "\n",
		p->n_entries[TPROXY_ALLOW]);
	for (i = 0; i < ARRAY_SIZE(counters); i++) {
		promtext_head(out, counters[i].name, "counter", counters[i].help);
		for (place = 0; place < _TPROXY_PLACE_MAX; place++) {
			const char *stat = (const char *)&p->places[place];

			fprintf(out, "%s{place=\"%s\"} %" PRIu64 "\n", counters[i].name,
				packets_place_name(place),
				(uint64_t) * (const __u64 *)(stat + counters[i].offset));
		}
	}
}

static void write_traffic(FILE *out, const struct packets *p, const char *name, bool bytes)
{
	size_t i;

	for (i = 0; i < 2 * p->n_targets; i++) {
		const struct packets_target *target = &p->targets[i / 2];
		const struct tproxy_traffic *sum = &target->sum;
		const uint64_t in = bytes ? sum->bytes_in : sum->packets_in;
		const uint64_t out_of = bytes ? sum->bytes_out : sum->packets_out;

		fprintf(out, "%s{cgroup=\"", name);
		promtext_label(out, target->path);
		fprintf(out, "\",role=\"%s\",direction=\"%s\"} %" PRIu64 "\n",
			target->relay ? "relay" : "scope", i % 2 ? "out" : "in",
			i % 2 ? out_of : in);
	}
}

void metrics_write_packets(FILE *out, const struct packets *p)
{
	write_block(out, p);
	promtext_head(out, "tproxy_traffic_counted", "gauge",
		      "1 if the traffic of cgroups is counted now.");
	fprintf(out, "tproxy_traffic_counted %d\n", p->counts_traffic ? 1 : 0);
	promtext_head(out, "tproxy_traffic_bytes_total", "counter",
		      "Bytes of all sockets in a cgroup of tproxy-load, from the IP header on.");
	write_traffic(out, p, "tproxy_traffic_bytes_total", /* bytes= */ true);
	promtext_head(out, "tproxy_traffic_packets_total", "counter",
		      "Packets of all sockets in a cgroup of tproxy-load.");
	write_traffic(out, p, "tproxy_traffic_packets_total", /* bytes= */ false);
}
