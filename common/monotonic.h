/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Monotonic clocks: that of the kernel half, bpf_ktime_get_ns(), in which all times in maps are
 * given, and a coarse one for timeouts within a process.
 */
#ifndef TPROXY_MONOTONIC_H
#define TPROXY_MONOTONIC_H

#include <stdint.h>

/*
 * Returns CLOCK_MONOTONIC of the initial time namespace, in nanoseconds. In another time namespace
 * (time_namespaces(7)) clock_gettime() adds an offset that can be days. A relay there would look
 * stalled, or alive long after its end. Thread-safe.
 */
uint64_t monotonic_kernel_ns(void);

/*
 * Returns CLOCK_MONOTONIC_COARSE in milliseconds: precise to a kernel tick, and needs no system
 * call. It has the offset of the process's time namespace. Thread-safe.
 */
uint64_t monotonic_coarse_ms(void);

#endif
