/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The clock of the kernel half, bpf_ktime_get_ns(): what maps hold times of. */
#ifndef TPROXY_MONOTONIC_H
#define TPROXY_MONOTONIC_H

#include <stdint.h>

/*
 * CLOCK_MONOTONIC as the host has it. In a time namespace (time_namespaces(7)) clock_gettime()
 * answers another one: earlier or later by days, so that a relay would look stalled, or alive long
 * after its end.
 */
uint64_t monotonic_kernel_ns(void);

#endif
