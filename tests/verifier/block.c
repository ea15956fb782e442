// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Runs block_in, block_out and xdp in the kernel (BPF_PROG_TEST_RUN) with the frames of
 * tests/unit/frames.h, and compares verdicts and counters with what the addresses say. Nothing is
 * attached or pinned, and the device of the packets is in a network namespace of its own.
 *
 * With --time: the time that each program takes for a packet, by the number of entries.
 *
 * TAP-like lines; exit 77 (skip) without the privilege, unless TPROXY_MUST_RUN is 1. To see it
 * fail: PACKET_VLAN_TAGS_MAX 1; leave out `tries->allow` in block_decide(), or the test of ends_ns
 * in block_find(); or the numbers of changes in passed4_has() and passed6_has(); or block_routed().
 */
#include "block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

static void check_all(const struct place *places, size_t n)
{
	size_t i;

	bed_add(0, TPROXY_BLOCK, "192.0.2.0", 24, 0);
	bed_add(0, TPROXY_BLOCK, "2001:db8:bad::", 48, 0);
	bed_add(0, TPROXY_ALLOW, FINE4T, 32, 0);
	bed_add(1, TPROXY_BLOCK, GOOD4T, 32, 0);
	for (i = 0; i < n; i++) {
		frames_check(&places[i]);
		list_check(&places[i]);
	}
	list_check_remembered(places, n);
	frames_check_buffers(&places[2]);
	traffic_check(&places[0], &places[1]);
}

int main(int argc, char *argv[])
{
	const char *must_run = getenv("TPROXY_MUST_RUN");
	int r;

	if (geteuid() != 0) {
		printf("SKIP: not root, the kernel would run no program\n");
		return must_run && strcmp(must_run, "1") == 0 ? EXIT_FAILURE : 77;
	}
	r = bed_open();
	if (r < 0) {
		printf("not ok 1 - %s\n", strerror(-r));
		return EXIT_FAILURE;
	}

	const struct place places[] = {
		{ TPROXY_PLACE_INGRESS, "block_in", bed_skel->progs.tproxy_block_in },
		{ TPROXY_PLACE_EGRESS, "block_out", bed_skel->progs.tproxy_block_out },
		{ TPROXY_PLACE_XDP, "xdp", bed_skel->progs.tproxy_xdp },
	};

	if (argc > 1 && strcmp(argv[1], "--time") == 0)
		time_print(places, ARRAY_SIZE(places));
	else
		check_all(places, ARRAY_SIZE(places));
	return bed_close() ? EXIT_SUCCESS : EXIT_FAILURE;
}
