// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Each frame of tests/unit/frames.h at each place, and a jumbo frame: what the address deserves,
 * and what is counted.
 */
#include "block.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

enum outcome {
	PASSES,
	IS_DROPPED,
	IS_ALLOWED,
	IS_CONTROL,
	IS_INVALID,
};

/* What the address of a frame deserves. */
static enum outcome outcome_of(const char *address)
{
	if (strcmp(address, FINE4T) == 0)
		return IS_ALLOWED;
	if (strncmp(address, "192.0.2.", 8) == 0 || strncmp(address, "2001:db8:bad:", 13) == 0)
		return IS_DROPPED;
	return PASSES;
}

static enum outcome expected(const struct place *place, const struct frame *f)
{
	enum outcome outcome;

	if (f->kind == PACKET_INVALID)
		return IS_INVALID;
	if (f->kind == PACKET_OTHER)
		return PASSES;
	outcome = outcome_of(place->place == TPROXY_PLACE_EGRESS ? f->destination : f->source);
	if (outcome == PASSES && f->final && place->place == TPROXY_PLACE_EGRESS)
		outcome = outcome_of(f->final);
	return outcome == IS_DROPPED && f->control ? IS_CONTROL : outcome;
}

/* Returns true if the counters have moved by one packet with this outcome. */
static bool is_counted(const struct tproxy_block_stat *before,
		       const struct tproxy_block_stat *after, enum outcome outcome, size_t size)
{
	const __u64 dropped = outcome == IS_DROPPED;

	return after->seen - before->seen == 1 && after->dropped - before->dropped == dropped &&
	       after->dropped_bytes - before->dropped_bytes == dropped * size &&
	       after->invalid - before->invalid == (outcome == IS_INVALID) &&
	       after->allowed - before->allowed == (outcome == IS_ALLOWED) &&
	       after->control - before->control == (outcome == IS_CONTROL);
}

static void check_frame(const struct place *place, const struct frame *f)
{
	const bool xdp = place->place == TPROXY_PLACE_XDP;
	const enum outcome outcome = expected(place, f);
	struct tproxy_block_stat before = bed_read_stat(place->place), after;
	char what[128];
	bool dropped;
	int error;

	snprintf(what, sizeof(what), "%s: %s", place->name, f->name);
	dropped = bed_drops(place, f->bytes, f->size, &error);
	/* Newer kernels do not run programs of sockets with a packet that IP would discard. */
	if (error == -EINVAL && !xdp && f->kind == PACKET_INVALID)
		return;
	if (error < 0) {
		bed_report(false, what, strerror(-error));
		return;
	}
	after = bed_read_stat(place->place);
	if (dropped != (outcome == IS_DROPPED))
		bed_report(false, what, dropped ? "dropped" : "passed");
	else
		bed_report(
			is_counted(&before, &after, outcome, f->size - (xdp ? 0 : PACKET_ETH_LEN)),
			what, "counted wrongly");
}

void frames_check(const struct place *place)
{
	size_t i;

	bed_set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS);
	for (i = 0; i < ARRAY_SIZE(frames); i++) {
		/* The kernel runs programs with whole Ethernet headers only. */
		if (frames[i].size < PACKET_ETH_LEN ||
		    (frames[i].l2 && place->place != TPROXY_PLACE_XDP))
			continue;
		check_frame(place, &frames[i]);
	}
}

/* A frame of several buffers: jumbo frames. */
void frames_check_buffers(const struct place *place)
{
	struct tproxy_block_stat before = bed_read_stat(place->place), after;
	_cleanup_free_ char *bytes = calloc(1, 9014);
	int error;

	if (!bytes)
		return;
	memcpy(bytes, from_bad, sizeof(from_bad) - 1);
	bed_set_state(TPROXY_BLOCK_ENTRIES);
	bed_expect(place, bed_drops(place, bytes, 9014, &error) && error == 0,
		   "a jumbo frame is dropped");
	after = bed_read_stat(place->place);
	bed_expect(place, after.dropped_bytes - before.dropped_bytes == 9014, "with all its bytes");
}
