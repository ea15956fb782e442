/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The time between two samples of `tproxyctl top`, as the option and the key give it. */
#ifndef TPROXY_CTL_TOP_DELAY_H
#define TPROXY_CTL_TOP_DELAY_H

#include <stdint.h>

#define TOP_DELAY_MIN_MS 100
#define TOP_DELAY_MAX_MS (3600 * 1000)

/*
 * Reads a delay as top(1) does, seconds such as 2 or 0.5, or as the other options do, such as
 * 500ms. Returns 0, -EINVAL or -ERANGE.
 */
int top_parse_delay(const char *text, uint64_t *ret_ms);

#endif
