/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a program of somebody else on the packets of a cgroup (cgroup_skb) would do with a packet.
 * The kernel runs it on one that we make up (BPF_PROG_RUN): nothing is attached and nothing is
 * sent. What the program counts, it counts.
 */
#ifndef TPROXY_LOADER_VERDICT_H
#define TPROXY_LOADER_VERDICT_H

#include <stdbool.h>
#include <stddef.h>

#include "tproxy_abi.h"

/*
 * A TCP SYN to remote (egress), or the SYN-ACK from there. ifindex: the interface, 0 = lo.
 * 1: it passes; 0: it is dropped; -errno: the kernel does not run that program.
 */
int verdict_ask(int prog_fd, bool egress, const struct tproxy_endpoint *remote,
		unsigned int ifindex);

#define VERDICT_SAMPLES_MAX 96

struct verdict_samples {
	struct tproxy_endpoint ep[VERDICT_SAMPLES_MAX];
	size_t n;
};

/* Addresses of private and of public networks, of both families. */
void verdict_add_usual(struct verdict_samples *to);

/* Those in the tries that a program looks up, as systemd's IPAddressAllow= and IPAddressDeny=. */
void verdict_add_of_program(struct verdict_samples *to, int prog_fd);

/* Of 127.0.0.0/8, or ::1. */
bool verdict_is_loopback(const struct tproxy_endpoint *ep);
bool verdict_is_ipv4(const struct tproxy_endpoint *ep);

#endif
