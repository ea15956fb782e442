/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The programs of others on the packets of one cgroup (cgroup_skb), and what they let pass. */
#ifndef TPROXY_LOADER_FILTERS_H
#define TPROXY_LOADER_FILTERS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

#include "tproxy_abi.h"
#include "verdict.h"

/* Of one direction; the kernel allows as many. */
#define FILTERS_MAX 64

struct filter {
	int fd;
	__u32 id;
	bool egress;
	char name[BPF_OBJ_NAME_LEN + 1];
};

struct filters {
	struct filter list[2 * FILTERS_MAX];
	size_t n;
};

/* Of all programs of a cgroup together: a packet has to pass each of them. Of one family. */
struct filters_outcome {
	const struct tproxy_endpoint *relay; /* NULL: relays do not serve that family */
	bool cut;			     /* the relay is not reached */
	bool some_pass;			     /* of the samples */
	bool some_drop;
	struct tproxy_endpoint dropped; /* one of these */
};

/* Those attached to the cgroup itself. The caller calls filters_finish(). */
void filters_collect(int cgroup_fd, struct filters *ret);
void filters_finish(struct filters *filters);

/* "program 12, 'sd_fw_egress', on egress", for each of them, with ';' between. */
void filters_describe(const struct filters *filters, char *buf, size_t size);

/* What systemd makes of IPAddressAllow= and IPAddressDeny=: its tries tell all that it does. */
bool filters_are_systemds(const struct filters *filters);

/* Addresses to try, also those in the programs' own tries. */
void filters_choose_samples(const struct filters *filters, struct verdict_samples *ret);

/*
 * Asks them about handshakes with a relay (on lo; port 0: there is none, nothing is asked) and with
 * the samples of its family (on the interface). relay stays the caller's. 0; -errno: the kernel
 * does not run one of them.
 */
int filters_try(const struct filters *filters, const struct tproxy_endpoint *relay,
		const struct verdict_samples *samples, unsigned int ifindex,
		struct filters_outcome *ret);

#endif
