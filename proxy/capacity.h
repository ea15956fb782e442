/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How many descriptors there are, and what they are shared out to. */
#ifndef TPROXY_CAPACITY_H
#define TPROXY_CAPACITY_H

#include <stdint.h>

struct options;

/* Descriptors are the first limit that a relay meets: raises the soft limit to the hard one. */
uint32_t capacity_raise_nofile(void);

/* Pipes for bulk transfers, for each worker. */
uint32_t capacity_pipes(uint32_t nofile, uint32_t workers);

/* How many sessions there may be; --max-connections, if that is possible, which is logged if not.
 */
uint32_t capacity_sessions(uint32_t nofile, const struct options *options);

#endif
