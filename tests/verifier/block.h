/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The parts of the test of the block list in the kernel, see block.c. The bed (block_bed.c) has the
 * programs, their list and a device; the others have the checks, each of which reports its results.
 */
#ifndef TPROXY_TEST_BLOCK_H
#define TPROXY_TEST_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "frames.h"
#include "tproxy.skel.h"
#include "tproxy_abi.h"

struct bpf_test_run_opts;

/* A program, and the place at which it sees packets. */
struct place {
	enum tproxy_place place;
	const char *name;
	struct bpf_program *prog;
};

extern struct tproxy_bpf *bed_skel;
extern int bed_device; /* index of the device that packets come from and leave by */

/* Makes the device, and loads the programs. Returns 0 or -errno. */
int bed_open(void);
/* Prints the totals, if anything was reported. Returns true if all was well. */
bool bed_close(void);

/* Prints a result, with its number. detail: what is said if it is not ok. */
void bed_report(bool ok, const char *what, const char *detail);
void bed_expect(const struct place *place, bool ok, const char *what);

/* Returns the descriptor of a trie of the list. slot: 0 or 1. */
int bed_trie(int slot, enum tproxy_block_kind kind);
/* ends_ns: of CLOCK_MONOTONIC, 0: never. Adding an entry again zeroes its counters. */
void bed_add(int slot, enum tproxy_block_kind kind, const char *address, __u32 n_bits,
	     __u64 ends_ns);
void bed_delete(int slot, enum tproxy_block_kind kind, const char *address, __u32 n_bits);
/* Returns the entry of slot 0 that the address matches, with its counters. */
struct tproxy_block_entry bed_entry(enum tproxy_block_kind kind, const char *address);
/* state: enum tproxy_block_state. changes: number of changes, 0: the hooks remember nothing. */
void bed_set_state_of(__u32 state, __u32 changes);
void bed_set_state(__u32 state);

/* Returns the counters of a place, of all CPUs. */
struct tproxy_block_stat bed_read_stat(enum tproxy_place place);
/* Runs a program with a packet of this device. Returns 0 or -errno. */
int bed_run(const struct place *place, const void *bytes, size_t size, int ifindex, __u32 gso_segs,
	    int repeat, struct bpf_test_run_opts *opts);
/* Runs a program once. Returns true if the packet was dropped; *ret_error: 0 or -errno. */
bool bed_drops(const struct place *place, const void *bytes, size_t size, int *ret_error);

/* As bed_drops(), for an array of bytes. The caller has a variable `error`. */
#define DROPS(place, bytes) bed_drops(place, bytes, sizeof(bytes) - 1, &error)

/* Frames whose source and destination is the same address of frames.h. */
static const char from_bad[] = MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, BAD4) DNS;
static const char from_fine[] = MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, FINE4, FINE4) DNS;
static const char from_good[] = MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, GOOD4, GOOD4) DNS;
static const char from_good6[] = MACS TYPE6 IPV6(P_UDP, "\x40", GOOD6, GOOD6) DNS;
static const char from_bad6[] = MACS TYPE6 IPV6(P_UDP, "\x40", BAD6, BAD6) DNS;

/* The checks, by file. */

/* block_frames.c: each frame, and a jumbo frame, which only XDP sees. */
void frames_check(const struct place *place);
void frames_check_buffers(const struct place *place);
/* block_list.c: states of the list, and what the places remember of it. */
void list_check(const struct place *place);
void list_check_remembered(const struct place *places, size_t n);
/* block_traffic.c */
void traffic_check(const struct place *in, const struct place *out);
/* block_time.c: fills the list. */
void time_print(const struct place *places, size_t n);

#endif
