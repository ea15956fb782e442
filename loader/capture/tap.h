/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packet socket of a capture. The socket filter of bpf/capture.bpf.c lets only packets of known
 * connections into its ring, of all interfaces of this network namespace. Functions log no errors
 * and return 0 or -errno, unless stated otherwise.
 */
#ifndef TPROXY_CAPTURE_TAP_H
#define TPROXY_CAPTURE_TAP_H

#include <linux/if_packet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tap;

struct tap_packet {
	uint64_t time_ns; /* since 1970 */
	const struct sockaddr_ll *link;
	const uint8_t *data; /* from the network header on */
	uint32_t captured, len;
};

/* Called for each packet, which is valid during the call. A result other than 0 ends the reading.
 */
typedef int (*tap_fn)(const struct tap_packet *packet, void *data);

/*
 * What the socket filter tests by itself: for each kind that has values, one of them must fit the
 * connection. The socket filter lets more packets pass than the filter options do, so the caller
 * tests again.
 */
#define TAP_VALUES_MAX 4
struct tap_filter {
	uint32_t pids[TAP_VALUES_MAX], uids[TAP_VALUES_MAX];
	size_t n_pids, n_uids;
	uint16_t first_ports[TAP_VALUES_MAX], last_ports[TAP_VALUES_MAX];
	size_t n_ports;
	const char *commands[TAP_VALUES_MAX]; /* a '*' at the end stands for any rest */
	size_t n_commands;
};

/*
 * Opens the socket. @flows_fd is map_flows, @netns_cookie that of this network namespace. Up to
 * @snap_length bytes of each packet are kept. *ret_what names the step that has failed. The caller
 * calls tap_close().
 */
int tap_open(int flows_fd, uint64_t netns_cookie, uint32_t snap_length,
	     const struct tap_filter *filter, struct tap **ret_tap, const char **ret_what);
/* Frees it. NULL is accepted. */
void tap_close(struct tap *tap);

/* Readable while packets wait. */
int tap_fd(const struct tap *tap);
/* Calls @fn for all packets that wait. Returns 0, or what @fn has returned. */
int tap_read(struct tap *tap, tap_fn fn, void *data);

/* Keeps the packets of a connection out from now on. */
void tap_refuse(struct tap *tap, uint64_t cookie);

/* Lets no further packet in. Those that are in the ring can be read. */
int tap_stop(struct tap *tap);
/* Returns true once all packets were read that had passed the filter, after tap_stop(). */
bool tap_is_drained(struct tap *tap);

/* Packets that have passed the filter so far, and how many of them did not fit into the ring. */
void tap_count(struct tap *tap, uint64_t *ret_received, uint64_t *ret_dropped);

#endif
