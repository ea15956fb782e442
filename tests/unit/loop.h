/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Waits for a condition while an event loop runs. */
#ifndef TPROXY_TEST_LOOP_H
#define TPROXY_TEST_LOOP_H

#include <event2/event.h>
#include <stdint.h>
#include <unistd.h>

#include "monotonic.h"
#include "unit.h"

#define LOOP_WAIT_MS 20000

/* Runs the loop of base until the condition is true. Fails the test after LOOP_WAIT_MS. */
#define loop_until(base, condition)                                                                \
	do {                                                                                       \
		const uint64_t until_ms = monotonic_coarse_ms() + LOOP_WAIT_MS;                    \
		while (!(condition)) {                                                             \
			event_base_loop(base, EVLOOP_NONBLOCK);                                    \
			if (monotonic_coarse_ms() > until_ms)                                      \
				fail_msg("waited in vain for " #condition);                        \
			usleep(200);                                                               \
		}                                                                                  \
	} while (0)

#endif
