/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Foreign programs on the packets of one cgroup (cgroup_skb), and what they let pass. */
#ifndef TPROXY_DOCTOR_FILTERS_H
#define TPROXY_DOCTOR_FILTERS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

#include "tproxy_abi.h"
#include "verdict.h"

/* For one direction: the kernel allows as many on one hook of a cgroup. */
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

/*
 * The outcome of all programs of a cgroup together, for one address family. A packet has to pass
 * each of them.
 */
struct filters_outcome {
	const struct tproxy_endpoint *relay; /* NULL: relays do not serve that family */
	bool cut;			     /* packets to or from the relay are dropped */
	bool some_pass;			     /* some of the samples pass */
	bool some_drop;
	struct tproxy_endpoint dropped; /* one of the dropped samples */
};

/*
 * Collects the programs that are attached to the cgroup itself. The caller calls filters_finish().
 */
void filters_collect(int cgroup_fd, struct filters *ret);
void filters_finish(struct filters *filters);

/* Writes "program 12, 'sd_fw_egress', on egress" for each program, with ';' between. */
void filters_describe(const struct filters *filters, char *buf, size_t size);

/*
 * Returns true if all are programs that systemd makes of IPAddressAllow= and IPAddressDeny=. Their
 * tries contain everything that they decide.
 */
bool filters_are_systemds(const struct filters *filters);

/* Chooses addresses to try, and adds those in the programs' own tries. */
void filters_choose_samples(const struct filters *filters, struct verdict_samples *ret);

/*
 * Runs the programs on handshakes with the relay (on lo) and with the samples of its family (on the
 * interface). If relay->port is 0 there is no relay, and nothing is run. ret->relay points to
 * @relay. Returns 0, or -errno if the kernel does not run one of the programs.
 */
int filters_try(const struct filters *filters, const struct tproxy_endpoint *relay,
		const struct verdict_samples *samples, unsigned int ifindex,
		struct filters_outcome *ret);

#endif
