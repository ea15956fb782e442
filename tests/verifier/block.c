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
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"
#include "tproxy.skel.h"
#include "tproxy_abi.h"
#include "util.h"

#define DEVICE "tproxytest0"
#define REPEAT 2000000

enum outcome {
	PASSES,
	IS_DROPPED,
	IS_ALLOWED,
	IS_CONTROL,
	IS_INVALID,
};

static struct tproxy_bpf *skel;
static int device; /* index of the device that packets come from and leave by */
static int passed, failed;

static void report(bool ok, const char *what, const char *detail)
{
	if (ok)
		printf("ok %d - %s\n", ++passed + failed, what);
	else
		printf("not ok %d - %s: %s\n", passed + ++failed, what, detail);
}

/* --- the list --- */

static void read_prefix(const char *address, __u32 n_bits, struct tproxy_prefix *ret)
{
	*ret = (struct tproxy_prefix){ .n_bits = n_bits, .addr = { [10] = 0xff, [11] = 0xff } };
	if (inet_pton(AF_INET, address, &ret->addr[12]) == 1)
		ret->n_bits += 96;
	else
		inet_pton(AF_INET6, address, ret->addr);
}

static int trie(int slot, enum tproxy_block_kind kind)
{
	const struct bpf_map *maps[] = { skel->maps.map_block_0, skel->maps.map_allow_0,
					 skel->maps.map_block_1, skel->maps.map_allow_1 };

	return bpf_map__fd(maps[TPROXY_BLOCK_TRIE(slot, kind)]);
}

static void add(int slot, enum tproxy_block_kind kind, const char *address, __u32 n_bits,
		__u64 ends_ns)
{
	struct tproxy_prefix key;
	struct tproxy_block_entry entry = { .ends_ns = ends_ns };

	read_prefix(address, n_bits, &key);
	entry.n_bits = key.n_bits;
	if (bpf_map_update_elem(trie(slot, kind), &key, &entry, BPF_ANY) < 0)
		report(false, address, strerror(errno));
}

static void delete_entry(int slot, enum tproxy_block_kind kind, const char *address, __u32 n_bits)
{
	struct tproxy_prefix key;

	read_prefix(address, n_bits, &key);
	bpf_map_delete_elem(trie(slot, kind), &key);
}

static struct tproxy_block_entry entry_of(enum tproxy_block_kind kind, const char *address)
{
	struct tproxy_block_entry entry = {};
	struct tproxy_prefix key;

	read_prefix(address, strchr(address, ':') ? 128 : 32, &key);
	bpf_map_lookup_elem(trie(0, kind), &key, &entry);
	return entry;
}

/* changes: 0: the hooks remember nothing. */
static void set_state_of(__u32 state, __u32 changes)
{
	const struct tproxy_block block = { .state = state, .changes = changes };
	const __u32 key = 0;

	bpf_map_update_elem(bpf_map__fd(skel->maps.map_block), &key, &block, BPF_ANY);
}

static void set_state(__u32 state)
{
	set_state_of(state, 0);
}

/* What the address of a frame deserves. */
static enum outcome outcome_of(const char *address)
{
	if (strcmp(address, FINE4T) == 0)
		return IS_ALLOWED;
	if (strncmp(address, "192.0.2.", 8) == 0 || strncmp(address, "2001:db8:bad:", 13) == 0)
		return IS_DROPPED;
	return PASSES;
}

/* --- running programs --- */

struct place {
	enum tproxy_place place;
	const char *name;
	struct bpf_program *prog;
};

static struct tproxy_block_stat read_stat(enum tproxy_place place)
{
	const int n = libbpf_num_possible_cpus();
	_cleanup_free_ struct tproxy_block_stat *values = calloc((size_t)n, sizeof(*values));
	struct tproxy_block_stat sum = {};
	const __u32 key = place;
	int i;

	if (!values)
		return sum;
	bpf_map_lookup_elem(bpf_map__fd(skel->maps.map_block_stats), &key, values);
	for (i = 0; i < n; i++) {
		sum.seen += values[i].seen;
		sum.dropped += values[i].dropped;
		sum.dropped_bytes += values[i].dropped_bytes;
		sum.invalid += values[i].invalid;
		sum.allowed += values[i].allowed;
		sum.control += values[i].control;
	}
	return sum;
}

/* Runs a program with a packet of this device. Returns 0 or -errno. */
static int run_on(const struct place *place, const void *bytes, size_t size, int ifindex,
		  __u32 gso_segs, int repeat, struct bpf_test_run_opts *opts)
{
	struct xdp_md md = { .data_end = (__u32)size, .ingress_ifindex = (__u32)ifindex };
	struct __sk_buff skb = { .ifindex = (__u32)ifindex, .gso_segs = gso_segs };
	const bool xdp = place->place == TPROXY_PLACE_XDP;

	*opts = (struct bpf_test_run_opts){
		.sz = sizeof(*opts),
		.data_in = bytes,
		.data_size_in = (__u32)size,
		.ctx_in = xdp ? (void *)&md : (void *)&skb,
		.ctx_size_in = xdp ? sizeof(md) : sizeof(skb),
		.repeat = repeat,
	};
	return bpf_prog_test_run_opts(bpf_program__fd(place->prog), opts);
}

/* Runs a program once. Returns true if the packet was dropped; *ret_error: 0 or -errno. */
static bool drops(const struct place *place, const void *bytes, size_t size, int *ret_error)
{
	struct bpf_test_run_opts opts;

	*ret_error = run_on(place, bytes, size, device, 0, 1, &opts);
	if (*ret_error < 0)
		return false;
	if (place->place == TPROXY_PLACE_XDP)
		return opts.retval == XDP_DROP;
	if (opts.retval > 1)
		*ret_error = -ERANGE;
	return opts.retval == 0;
}

/* --- each frame at each place --- */

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
	struct tproxy_block_stat before = read_stat(place->place), after;
	char what[128];
	bool dropped;
	int error;

	snprintf(what, sizeof(what), "%s: %s", place->name, f->name);
	dropped = drops(place, f->bytes, f->size, &error);
	/* Newer kernels do not run programs of sockets with a packet that IP would discard. */
	if (error == -EINVAL && !xdp && f->kind == PACKET_INVALID)
		return;
	if (error < 0) {
		report(false, what, strerror(-error));
		return;
	}
	after = read_stat(place->place);
	if (dropped != (outcome == IS_DROPPED))
		report(false, what, dropped ? "dropped" : "passed");
	else
		report(is_counted(&before, &after, outcome, f->size - (xdp ? 0 : PACKET_ETH_LEN)),
		       what, "counted wrongly");
}

static void check_frames(const struct place *place)
{
	size_t i;

	set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS);
	for (i = 0; i < ARRAY_SIZE(frames); i++) {
		/* The kernel runs programs with whole Ethernet headers only. */
		if (frames[i].size < PACKET_ETH_LEN ||
		    (frames[i].l2 && place->place != TPROXY_PLACE_XDP))
			continue;
		check_frame(place, &frames[i]);
	}
}

/* --- states of the list --- */

static const char from_bad[] = MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, BAD4) DNS;
static const char from_fine[] = MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, FINE4, FINE4) DNS;
static const char from_good[] = MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, GOOD4, GOOD4) DNS;
static const char from_good6[] = MACS TYPE6 IPV6(P_UDP, "\x40", GOOD6, GOOD6) DNS;
static const char from_bad6[] = MACS TYPE6 IPV6(P_UDP, "\x40", BAD6, BAD6) DNS;

#define DROPS(place, bytes) drops(place, bytes, sizeof(bytes) - 1, &error)

static void expect(const struct place *place, bool ok, const char *what)
{
	char text[128];

	snprintf(text, sizeof(text), "%s: %s", place->name, what);
	report(ok, text, "does not hold");
}

static void check_states(const struct place *place)
{
	const __u32 entries = TPROXY_BLOCK_ENTRIES, allows = TPROXY_BLOCK_ALLOWS;
	struct tproxy_block_stat before = read_stat(place->place), after;
	struct bpf_test_run_opts opts;
	int error;

	set_state(0);
	expect(place, !DROPS(place, from_bad), "an empty list drops nothing");
	set_state(TPROXY_BLOCK_TRAFFIC | allows);
	expect(place, !DROPS(place, from_bad), "without ENTRIES nothing is dropped");
	set_state(entries | allows);
	error = run_on(place, from_bad, sizeof(from_bad) - 1, 1, 0, 1, &opts);
	expect(place,
	       error == 0 && opts.retval == (place->place == TPROXY_PLACE_XDP ? XDP_PASS : 1U),
	       "packets of the loopback device pass");
	after = read_stat(place->place);
	expect(place, after.seen == before.seen, "what is not looked up is not seen");
	expect(place, !DROPS(place, from_fine), "an allowed address passes");
	set_state(entries);
	expect(place, DROPS(place, from_fine), "without ALLOWS the allow list is not asked");
	set_state(entries | allows | TPROXY_BLOCK_SLOT);
	expect(place, !DROPS(place, from_bad), "the other slot has another list");
	expect(place, DROPS(place, from_good), "which is in force");
	set_state(entries | allows);
	expect(place, DROPS(place, from_bad), "the first list is in force again");
}

static void check_slot_without_tries(const struct place *place)
{
	const int fd = bpf_map__fd(skel->maps.map_block_tries);
	const __u32 keys[] = { TPROXY_BLOCK_TRIE(1, TPROXY_BLOCK),
			       TPROXY_BLOCK_TRIE(1, TPROXY_ALLOW) };
	const __u32 values[] = { (__u32)trie(1, TPROXY_BLOCK), (__u32)trie(1, TPROXY_ALLOW) };
	int error;

	set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS | TPROXY_BLOCK_SLOT);
	bpf_map_delete_elem(fd, &keys[1]);
	expect(place, DROPS(place, from_good), "a slot without allow trie allows nothing");
	bpf_map_delete_elem(fd, &keys[0]);
	expect(place, !DROPS(place, from_good), "a slot without tries blocks nothing");
	bpf_map_update_elem(fd, &keys[0], &values[0], BPF_ANY);
	bpf_map_update_elem(fd, &keys[1], &values[1], BPF_ANY);
	expect(place, DROPS(place, from_good), "until it has one again");
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

	set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS);
	add(0, TPROXY_BLOCK, GOOD4T, 32, monotonic(1000));
	expect(place, DROPS(place, from_good), "an entry that has not ended drops");
	add(0, TPROXY_BLOCK, GOOD4T, 32, monotonic(-1));
	expect(place, !DROPS(place, from_good), "an entry that has ended does not");
	add(0, TPROXY_BLOCK, "198.51.100.0", 24, 0);
	expect(place, DROPS(place, from_good), "and the entry around it decides");
	add(0, TPROXY_ALLOW, GOOD4T, 32, monotonic(-1));
	expect(place, DROPS(place, from_good), "an allow entry that has ended allows nothing");
	delete_entry(0, TPROXY_ALLOW, GOOD4T, 32);
	delete_entry(0, TPROXY_BLOCK, GOOD4T, 32);
	delete_entry(0, TPROXY_BLOCK, "198.51.100.0", 24);
	add(0, TPROXY_BLOCK, "::", 0, 0);
	expect(place, !DROPS(place, from_good), "::/0 is not of IPv4");
	delete_entry(0, TPROXY_BLOCK, "::", 0);
}

static void check_entry_counts(const struct place *place)
{
	const size_t size =
		sizeof(from_bad) - 1 - (place->place == TPROXY_PLACE_XDP ? 0 : PACKET_ETH_LEN);
	struct bpf_test_run_opts opts;
	struct tproxy_block_entry entry;
	int error;

	add(0, TPROXY_BLOCK, BAD4T, 32, 0); /* zeroes its counters */
	add(0, TPROXY_ALLOW, FINE4T, 32, 0);
	set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS);
	error = run_on(place, from_bad, sizeof(from_bad) - 1, device, 0, 3, &opts);
	entry = entry_of(TPROXY_BLOCK, BAD4T);
	expect(place, error == 0 && entry.packets == 3 && entry.bytes == 3 * size,
	       "the entry counts packets and bytes");
	expect(place, entry.last_ns > monotonic(-60) && entry.last_ns <= monotonic(0),
	       "and when it last did");
	DROPS(place, from_fine);
	entry = entry_of(TPROXY_ALLOW, FINE4T);
	expect(place, entry.packets == 1 && entry.bytes == size, "so does an allow entry");
	if (place->place == TPROXY_PLACE_XDP)
		return;
	run_on(place, from_bad, sizeof(from_bad) - 1, device, 5, 1, &opts);
	entry = entry_of(TPROXY_BLOCK, BAD4T);
	expect(place, entry.packets == 3 + 5, "segments that are handled as one packet count");
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
		add(0, TPROXY_BLOCK, address, n_bits, 0);
	else
		delete_entry(0, TPROXY_BLOCK, address, n_bits);
}

/* The numbers of changes begin with @changes, which no place has used before. */
static void check_remembered(const struct place *place, bool ipv6, __u32 changes)
{
	const __u32 entries = TPROXY_BLOCK_ENTRIES, changing = TPROXY_BLOCK_CHANGING;
	struct tproxy_block_stat before = read_stat(place->place), after;

	set_state_of(entries, changes);
	expect(place, !drops_good(place, ipv6), "an address without entry passes");
	block_good(ipv6, true);
	expect(place, !drops_good(place, ipv6), "and is not looked up again");
	after = read_stat(place->place);
	expect(place, after.seen - before.seen == 2, "but counted");
	set_state_of(entries | changing, changes);
	expect(place, drops_good(place, ipv6), "unless the list is being changed");
	set_state_of(entries, changes + 1);
	expect(place, drops_good(place, ipv6), "or was changed");
	block_good(ipv6, false);
	expect(place, !drops_good(place, ipv6), "an address that was dropped is looked up again");
	set_state_of(entries | changing, changes + 2);
	expect(place, !drops_good(place, ipv6), "an address passes during a change");
	set_state_of(entries, changes + 2);
	block_good(ipv6, true);
	expect(place, drops_good(place, ipv6), "which is not remembered");
	block_good(ipv6, false);
	set_state(entries);
	expect(place, !drops_good(place, ipv6), "without a number of changes an address passes");
	block_good(ipv6, true);
	expect(place, drops_good(place, ipv6), "and is not remembered");
	block_good(ipv6, false);
}

static void check_remembered_at_all_places(const struct place *places, size_t n)
{
	int error;
	size_t i;

	for (i = 0; i < n; i++) {
		check_remembered(&places[i], /* ipv6= */ false, 10 * (__u32)i + 1);
		check_remembered(&places[i], /* ipv6= */ true, 10 * (__u32)i + 5);
	}
	/* What one place remembers counts for all of them. */
	set_state_of(TPROXY_BLOCK_ENTRIES, UINT32_MAX);
	DROPS(&places[0], from_good);
	block_good(/* ipv6= */ false, true);
	expect(&places[n - 1], !DROPS(&places[n - 1], from_good), "another place's look-up counts");
	block_good(/* ipv6= */ false, false);
}

/* --- traffic --- */

static struct tproxy_traffic read_traffic(__u64 cgroup_id)
{
	const int n = libbpf_num_possible_cpus();
	_cleanup_free_ struct tproxy_traffic *values = calloc((size_t)n, sizeof(*values));
	struct tproxy_traffic sum = {};
	int i;

	if (!values ||
	    bpf_map_lookup_elem(bpf_map__fd(skel->maps.map_traffic), &cgroup_id, values) < 0)
		return sum;
	for (i = 0; i < n; i++) {
		sum.packets_in += values[i].packets_in;
		sum.packets_out += values[i].packets_out;
		sum.bytes_in += values[i].bytes_in;
		sum.bytes_out += values[i].bytes_out;
	}
	return sum;
}

/* Returns the id of the only cgroup that was counted: that of the test's socket. */
static __u64 counted_cgroup(void)
{
	__u64 id = 0;

	return bpf_map_get_next_key(bpf_map__fd(skel->maps.map_traffic), NULL, &id) < 0 ? 0 : id;
}

static void check_traffic(const struct place *in, const struct place *out)
{
	const size_t size = sizeof(from_good) - 1 - PACKET_ETH_LEN;
	struct tproxy_traffic traffic;
	int error;
	__u64 id;

	id = counted_cgroup(); /* by check_states() */
	bpf_map_delete_elem(bpf_map__fd(skel->maps.map_traffic), &id);
	set_state(TPROXY_BLOCK_ENTRIES);
	DROPS(in, from_good);
	expect(in, counted_cgroup() == 0, "no traffic is counted unless asked for");
	set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_TRAFFIC);
	DROPS(in, from_good);
	DROPS(out, from_good);
	DROPS(out, from_good);
	DROPS(in, from_bad);
	DROPS(out, from_bad);
	id = counted_cgroup();
	traffic = read_traffic(id);
	expect(in, traffic.packets_in == 1 && traffic.bytes_in == size,
	       "traffic in is counted, without what is dropped");
	expect(out, traffic.packets_out == 2 && traffic.bytes_out == 2 * size,
	       "traffic out is counted, without what is dropped");
	set_state(TPROXY_BLOCK_TRAFFIC);
	DROPS(in, from_bad);
	traffic = read_traffic(id);
	expect(in, traffic.packets_in == 2, "without a list all traffic is counted");
}

/* A frame of several buffers: jumbo frames. */
static void check_buffers(const struct place *place)
{
	struct tproxy_block_stat before = read_stat(place->place), after;
	_cleanup_free_ char *bytes = calloc(1, 9014);
	int error;

	if (!bytes)
		return;
	memcpy(bytes, from_bad, sizeof(from_bad) - 1);
	set_state(TPROXY_BLOCK_ENTRIES);
	expect(place, drops(place, bytes, 9014, &error) && error == 0, "a jumbo frame is dropped");
	after = read_stat(place->place);
	expect(place, after.dropped_bytes - before.dropped_bytes == 9014, "with all its bytes");
}

/* --- time --- */

static void fill(size_t n)
{
	const int fd = trie(0, TPROXY_BLOCK);
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
		if (run_on(place, bytes, size, device, 0, REPEAT / 5, &opts) == 0 &&
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
		if (run_on(place, bytes, sizeof(bytes) - 1, device, 0, 1, &opts) == 0)
			sum += opts.duration;
	}
	printf("  %-9s %-11s %4llu ns\n", place->name, what,
	       (unsigned long long)(sum / (unsigned int)n));
}

static void print_times(const struct place *places, size_t n_places)
{
	static const size_t sizes[] = { 0, 1000, 100000, 1000000 };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(sizes[i]);
		set_state(sizes[i] ? TPROXY_BLOCK_ENTRIES : 0);
		printf("%zu entries\n", sizes[i]);
		for (j = 0; j < n_places; j++) {
			print_time(&places[j], "passed", from_good, sizeof(from_good) - 1);
			print_time(&places[j], "passed v6", from_bad6, sizeof(from_bad6) - 1);
			print_time_of_random(&places[j], "random");
			if (!sizes[i])
				continue;
			set_state_of(TPROXY_BLOCK_ENTRIES, 1);
			print_time(&places[j], "remembered", from_good, sizeof(from_good) - 1);
			print_time(&places[j], "same, v6", from_bad6, sizeof(from_bad6) - 1);
			print_time_of_random(&places[j], "random, 1");
			set_state(TPROXY_BLOCK_ENTRIES);
			add(0, TPROXY_BLOCK, BAD4T, 32, 0);
			print_time(&places[j], "dropped", from_bad, sizeof(from_bad) - 1);
			set_state(TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS);
			add(0, TPROXY_ALLOW, BAD4T, 32, 0);
			print_time(&places[j], "allowed", from_bad, sizeof(from_bad) - 1);
			set_state(TPROXY_BLOCK_ENTRIES);
		}
	}
}

/* --- */

static int open_programs(void)
{
	struct bpf_program *prog;

	skel = tproxy_bpf__open();
	if (!skel)
		return -errno;
	bpf_object__for_each_program(prog, skel->obj)
	{
		bpf_program__set_autoload(prog, prog == skel->progs.tproxy_block_in ||
							prog == skel->progs.tproxy_block_out ||
							prog == skel->progs.tproxy_xdp);
	}
	return tproxy_bpf__load(skel);
}

static int open_device(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	if (system("ip link add " DEVICE " type veth peer name tproxytest1") != 0)
		return -ENODEV;
	device = (int)if_nametoindex(DEVICE);
	return device > 1 ? 0 : -ENODEV;
}

static void check_all(const struct place *places, size_t n)
{
	size_t i;

	add(0, TPROXY_BLOCK, "192.0.2.0", 24, 0);
	add(0, TPROXY_BLOCK, "2001:db8:bad::", 48, 0);
	add(0, TPROXY_ALLOW, FINE4T, 32, 0);
	add(1, TPROXY_BLOCK, GOOD4T, 32, 0);
	for (i = 0; i < n; i++) {
		check_frames(&places[i]);
		check_states(&places[i]);
		check_slot_without_tries(&places[i]);
		check_ends(&places[i]);
		check_entry_counts(&places[i]);
	}
	check_remembered_at_all_places(places, n);
	check_buffers(&places[2]);
	check_traffic(&places[0], &places[1]);
}

int main(int argc, char *argv[])
{
	const char *must_run = getenv("TPROXY_MUST_RUN");
	int r;

	if (geteuid() != 0) {
		printf("SKIP: not root, the kernel would run no program\n");
		return must_run && strcmp(must_run, "1") == 0 ? EXIT_FAILURE : 77;
	}
	r = open_device();
	if (r == 0)
		r = open_programs();
	if (r < 0) {
		printf("not ok 1 - %s\n", strerror(-r));
		return EXIT_FAILURE;
	}

	const struct place places[] = {
		{ TPROXY_PLACE_INGRESS, "block_in", skel->progs.tproxy_block_in },
		{ TPROXY_PLACE_EGRESS, "block_out", skel->progs.tproxy_block_out },
		{ TPROXY_PLACE_XDP, "xdp", skel->progs.tproxy_xdp },
	};

	if (argc > 1 && strcmp(argv[1], "--time") == 0) {
		print_times(places, ARRAY_SIZE(places));
	} else {
		check_all(places, ARRAY_SIZE(places));
		printf("%d passed, %d failed\n", passed, failed);
	}
	tproxy_bpf__destroy(skel);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
