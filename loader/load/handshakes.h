/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Lets redirected handshakes end before tproxy's programs are detached or a registration is
 * removed. Such a connection still has to be accepted by the relay, and the relay has to ask for
 * its original destination.
 */
#ifndef TPROXY_LOAD_HANDSHAKES_H
#define TPROXY_LOAD_HANDSHAKES_H

#include <stddef.h>

struct relays_entry;

/*
 * Blocks until no connection is queued in the backlog of any of these @n relays. With @socks_fd,
 * map_socks, also until no client's connect() waits for a relay; -1: those go on without us. It
 * takes at least 200 ms, far longer than a handshake within one host, and at most 5 s, because a
 * relay may hang.
 */
void handshakes_let_end(const struct relays_entry *list, size_t n, int socks_fd);

#endif
