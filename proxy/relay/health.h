/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The check of every second: logs, workers, registration, listeners. Main thread. */
#ifndef TPROXY_HEALTH_H
#define TPROXY_HEALTH_H

struct relay;

/*
 * Adds the timer of every second, and the event of changed addresses, whose descriptor is
 * relay->watch_fd. Without that descriptor, the timer alone detects changes. Returns 0 or -ENOMEM.
 */
int health_init(struct relay *relay);

#endif
