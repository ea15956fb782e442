/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* --admin: what the relay shows over HTTP, see admin/server.h. Main thread. */
#ifndef TPROXY_RELAY_ADMIN_H
#define TPROXY_RELAY_ADMIN_H

struct relay;

/*
 * Takes the address of --admin over from an earlier relay, if there is one, and serves. Does
 * nothing without --admin. Returns 0 or -errno, logged.
 */
int admin_start(struct relay *relay);
/* Stops serving. Called when the relay drains, because then the next one has the address. */
void admin_end(struct relay *relay);

#endif
