/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a foreign program on the packets of a cgroup (cgroup_skb) would do with a packet. The kernel
 * runs it on a made-up one (BPF_PROG_RUN): nothing is attached and nothing is sent. A program that
 * counts packets counts these too.
 */
#ifndef TPROXY_DOCTOR_VERDICT_H
#define TPROXY_DOCTOR_VERDICT_H

#include <stdbool.h>
#include <stddef.h>

#include "tproxy_abi.h"

/*
 * Runs the program on a TCP SYN to @remote (egress), or on the SYN-ACK from there. @ifindex is the
 * interface, 0 for lo. Returns 1 if the packet passes, 0 if it is dropped, or -errno if the kernel
 * does not run that program.
 */
int verdict_run(int prog_fd, bool egress, const struct tproxy_endpoint *remote,
		unsigned int ifindex);

#define VERDICT_SAMPLES_MAX 96

struct verdict_samples {
	struct tproxy_endpoint ep[VERDICT_SAMPLES_MAX];
	size_t n;
};

/* Adds addresses of private and of public networks, of both families. */
void verdict_add_usual(struct verdict_samples *to);

/*
 * Adds the addresses in the LPM tries of a program, such as those of systemd's IPAddressAllow= and
 * IPAddressDeny=.
 */
void verdict_add_of_program(struct verdict_samples *to, int prog_fd);

#endif
