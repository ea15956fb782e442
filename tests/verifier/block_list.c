// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * States of the list: which slot is in force, entries that end, what an entry counts, and addresses
 * that the hooks remember.
 */
#include "block.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <time.h>

static void check_states(const struct place *place)
{
	const __u32 entries = TPROXY_BLOCK_ENTRIES, allows = TPROXY_BLOCK_ALLOWS;
	struct tproxy_block_stat before = bed_read_stat(place->place), after;
	struct bpf_test_run_opts opts;
	int error;

	bed_set_state(0);
	bed_expect(place, !DROPS(place, from_bad), "an empty list drops nothing");
	bed_set_state(TPROXY_BLOCK_TRAFFIC | allows);
	bed_expect(place, !DROPS(place, from_bad), "without ENTRIES nothing is dropped");
	bed_set_state(entries | allows);
	error = bed_run(place, from_bad, sizeof(from_bad) - 1, 1, 0, 1, &opts);
	bed_expect(place,
		   error == 0 && opts.retval == (place->place == TPROXY_PLACE_XDP ? XDP_PASS : 1U),
		   "packets of the loopback device pass");
	after = bed_read_stat(place->place);
	bed_expect(place, after.seen == before.seen, "what is not looked up is not seen");
	bed_expect(place, !DROPS(place, from_fine), "an allowed address passes");
	bed_set_state(entries);
	bed_expect(place, DROPS(place, from_fine), "without ALLOWS the allow list is not asked");
	bed_set_state(entries | allows | TPROXY_BLOCK_SLOT);
	bed_expect(place, !DROPS(place, from_bad), "the other slot has another list");
	bed_expect(place, DROPS(place, from_good), "which is in force");
	bed_set_state(entries | allows);
	bed_expect(place, DROPS(place, from_bad), "the first list is in force again");
}

static void check_slot_without_tries(const struct place *place)
{
	const int fd = bpf_map__fd(bed_skel->maps.map_block_tries);
	const __u32 keys[] = { TPROXY_BLOCK_TRIE(1, TPROXY_BLOCK),
			       TPROXY_BLOCK_TRIE(1, TPROXY_ALLOW) };
	const __u32 values[] = { (__u32)bed_trie(1, TPROXY_BLOCK),
				 (__u32)bed_trie(1, TPROXY_ALLOW) };
	int error;

	bed_set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS | TPROXY_BLOCK_SLOT);
	bpf_map_delete_elem(fd, &keys[1]);
	bed_expect(place, DROPS(place, from_good), "a slot without allow trie allows nothing");
	bpf_map_delete_elem(fd, &keys[0]);
	bed_expect(place, !DROPS(place, from_good), "a slot without tries blocks nothing");
	bpf_map_update_elem(fd, &keys[0], &values[0], BPF_ANY);
	bpf_map_update_elem(fd, &keys[1], &values[1], BPF_ANY);
	bed_expect(place, DROPS(place, from_good), "until it has one again");
}

static __u64 monotonic(int64_t delta_s)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)((now.tv_sec + delta_s) * 1000000000LL + now.tv_nsec);
}

static void check_ends(const struct place *place)
{
	int error;

	bed_set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS);
	bed_add(0, TPROXY_BLOCK, GOOD4T, 32, monotonic(1000));
	bed_expect(place, DROPS(place, from_good), "an entry that has not ended drops");
	bed_add(0, TPROXY_BLOCK, GOOD4T, 32, monotonic(-1));
	bed_expect(place, !DROPS(place, from_good), "an entry that has ended does not");
	bed_add(0, TPROXY_BLOCK, "198.51.100.0", 24, 0);
	bed_expect(place, DROPS(place, from_good), "and the entry around it decides");
	bed_add(0, TPROXY_ALLOW, GOOD4T, 32, monotonic(-1));
	bed_expect(place, DROPS(place, from_good), "an allow entry that has ended allows nothing");
	bed_delete(0, TPROXY_ALLOW, GOOD4T, 32);
	bed_delete(0, TPROXY_BLOCK, GOOD4T, 32);
	bed_delete(0, TPROXY_BLOCK, "198.51.100.0", 24);
	bed_add(0, TPROXY_BLOCK, "::", 0, 0);
	bed_expect(place, !DROPS(place, from_good), "::/0 is not of IPv4");
	bed_delete(0, TPROXY_BLOCK, "::", 0);
}

static void check_entry_counts(const struct place *place)
{
	const size_t size =
		sizeof(from_bad) - 1 - (place->place == TPROXY_PLACE_XDP ? 0 : PACKET_ETH_LEN);
	struct bpf_test_run_opts opts;
	struct tproxy_block_entry entry;
	int error;

	bed_add(0, TPROXY_BLOCK, BAD4T, 32, 0); /* zeroes its counters */
	bed_add(0, TPROXY_ALLOW, FINE4T, 32, 0);
	bed_set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS);
	error = bed_run(place, from_bad, sizeof(from_bad) - 1, bed_device, 0, 3, &opts);
	entry = bed_entry(TPROXY_BLOCK, BAD4T);
	bed_expect(place, error == 0 && entry.packets == 3 && entry.bytes == 3 * size,
		   "the entry counts packets and bytes");
	bed_expect(place, entry.last_ns > monotonic(-60) && entry.last_ns <= monotonic(0),
		   "and when it last did");
	DROPS(place, from_fine);
	entry = bed_entry(TPROXY_ALLOW, FINE4T);
	bed_expect(place, entry.packets == 1 && entry.bytes == size, "so does an allow entry");
	if (place->place == TPROXY_PLACE_XDP)
		return;
	bed_run(place, from_bad, sizeof(from_bad) - 1, bed_device, 5, 1, &opts);
	entry = bed_entry(TPROXY_BLOCK, BAD4T);
	bed_expect(place, entry.packets == 3 + 5, "segments that are handled as one packet count");
}

void list_check(const struct place *place)
{
	check_states(place);
	check_slot_without_tries(place);
	check_ends(place);
	check_entry_counts(place);
}

/* --- addresses that are remembered --- */

static bool drops_good(const struct place *place, bool ipv6)
{
	int error;

	return ipv6 ? DROPS(place, from_good6) : DROPS(place, from_good);
}

/* Blocks addresses around those of from_good and from_good6, and no longer. */
static void block_good(bool ipv6, bool blocked)
{
	const char *address = ipv6 ? "2001:db8:1::" : "198.51.100.0";
	const __u32 n_bits = ipv6 ? 48 : 24;

	if (blocked)
		bed_add(0, TPROXY_BLOCK, address, n_bits, 0);
	else
		bed_delete(0, TPROXY_BLOCK, address, n_bits);
}

/* The numbers of changes begin with @changes, which no place has used before. */
static void check_remembered(const struct place *place, bool ipv6, __u32 changes)
{
	const __u32 entries = TPROXY_BLOCK_ENTRIES, changing = TPROXY_BLOCK_CHANGING;
	struct tproxy_block_stat before = bed_read_stat(place->place), after;

	bed_set_state_of(entries, changes);
	bed_expect(place, !drops_good(place, ipv6), "an address without entry passes");
	block_good(ipv6, true);
	bed_expect(place, !drops_good(place, ipv6), "and is not looked up again");
	after = bed_read_stat(place->place);
	bed_expect(place, after.seen - before.seen == 2, "but counted");
	bed_set_state_of(entries | changing, changes);
	bed_expect(place, drops_good(place, ipv6), "unless the list is being changed");
	bed_set_state_of(entries, changes + 1);
	bed_expect(place, drops_good(place, ipv6), "or was changed");
	block_good(ipv6, false);
	bed_expect(place, !drops_good(place, ipv6),
		   "an address that was dropped is looked up again");
	bed_set_state_of(entries | changing, changes + 2);
	bed_expect(place, !drops_good(place, ipv6), "an address passes during a change");
	bed_set_state_of(entries, changes + 2);
	block_good(ipv6, true);
	bed_expect(place, drops_good(place, ipv6), "which is not remembered");
	block_good(ipv6, false);
	bed_set_state(entries);
	bed_expect(place, !drops_good(place, ipv6),
		   "without a number of changes an address passes");
	block_good(ipv6, true);
	bed_expect(place, drops_good(place, ipv6), "and is not remembered");
	block_good(ipv6, false);
}

void list_check_remembered(const struct place *places, size_t n)
{
	int error;
	size_t i;

	for (i = 0; i < n; i++) {
		check_remembered(&places[i], /* ipv6= */ false, 10 * (__u32)i + 1);
		check_remembered(&places[i], /* ipv6= */ true, 10 * (__u32)i + 5);
	}
	/* What one place remembers counts for all of them. */
	bed_set_state_of(TPROXY_BLOCK_ENTRIES, UINT32_MAX);
	DROPS(&places[0], from_good);
	block_good(/* ipv6= */ false, true);
	bed_expect(&places[n - 1], !DROPS(&places[n - 1], from_good),
		   "another place's look-up counts");
	block_good(/* ipv6= */ false, false);
}
