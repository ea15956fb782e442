// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The time that each program takes for a packet, by the number of entries. */
#include "block.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define REPEAT 2000000

static void fill(size_t n)
{
	const int fd = bed_trie(0, TPROXY_BLOCK);
	size_t i;

	for (i = 0; i < n; i++) {
		struct tproxy_block_entry entry = { .n_bits = 128 };
		struct tproxy_prefix key = { .n_bits = 128, .addr = { [10] = 0xff, [11] = 0xff } };
		const __u32 ip = (__u32)(i * 2654435761U); /* spread over all of IPv4 */

		memcpy(&key.addr[12], &ip, sizeof(ip));
		bpf_map_update_elem(fd, &key, &entry, BPF_ANY);
	}
}

static void print_time(const struct place *place, const char *what, const char *bytes, size_t size)
{
	struct bpf_test_run_opts opts;
	__u32 least = UINT32_MAX;
	int i;

	for (i = 0; i < 5; i++) {
		if (bed_run(place, bytes, size, bed_device, 0, REPEAT / 5, &opts) == 0 &&
		    opts.duration < least)
			least = opts.duration;
	}
	printf("  %-9s %-11s %4u ns\n", place->name, what, least);
}

/*
 * Single runs with another source each time, so that the trie is not in the caches. Subtract what
 * an empty list takes in this way.
 */
static void print_time_of_random(const struct place *place, const char *what)
{
	char bytes[sizeof(from_good)];
	struct bpf_test_run_opts opts;
	const int n = 50000;
	__u64 sum = 0;
	int i, k;

	memcpy(bytes, from_good, sizeof(bytes));
	srandom(1);
	for (i = 0; i < n; i++) {
		for (k = 0; k < 8; k++)
			bytes[PACKET_ETH_LEN + PACKET_IPV4_SADDR + k] = (char)random();
		if (bed_run(place, bytes, sizeof(bytes) - 1, bed_device, 0, 1, &opts) == 0)
			sum += opts.duration;
	}
	printf("  %-9s %-11s %4llu ns\n", place->name, what,
	       (unsigned long long)(sum / (unsigned int)n));
}

void time_print(const struct place *places, size_t n_places)
{
	static const size_t sizes[] = { 0, 1000, 100000, 1000000 };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(sizes[i]);
		bed_set_state(sizes[i] ? TPROXY_BLOCK_ENTRIES : 0);
		printf("%zu entries\n", sizes[i]);
		for (j = 0; j < n_places; j++) {
			print_time(&places[j], "passed", from_good, sizeof(from_good) - 1);
			print_time(&places[j], "passed v6", from_bad6, sizeof(from_bad6) - 1);
			print_time_of_random(&places[j], "random");
			if (!sizes[i])
				continue;
			bed_set_state_of(TPROXY_BLOCK_ENTRIES, 1);
			print_time(&places[j], "remembered", from_good, sizeof(from_good) - 1);
			print_time(&places[j], "same, v6", from_bad6, sizeof(from_bad6) - 1);
			print_time_of_random(&places[j], "random, 1");
			bed_set_state(TPROXY_BLOCK_ENTRIES);
			bed_add(0, TPROXY_BLOCK, BAD4T, 32, 0);
			print_time(&places[j], "dropped", from_bad, sizeof(from_bad) - 1);
			bed_set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS);
			bed_add(0, TPROXY_ALLOW, BAD4T, 32, 0);
			print_time(&places[j], "allowed", from_bad, sizeof(from_bad) - 1);
			bed_set_state(TPROXY_BLOCK_ENTRIES);
		}
	}
}
