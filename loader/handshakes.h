/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections that were redirected a moment ago, before our programs or a registration go: they
 * still have to reach the relay's accepted socket, and the relay has to ask where they go.
 */
#ifndef TPROXY_LOADER_HANDSHAKES_H
#define TPROXY_LOADER_HANDSHAKES_H

#include <stddef.h>

struct relays_entry;

/*
 * Waits until no client waits for one of these n relays to accept it, 200 ms at least, which is far
 * more than a handshake within a host takes, and 5 s at most, for a relay may hang.
 */
void handshakes_let_end(const struct relays_entry *list, size_t n);

#endif
