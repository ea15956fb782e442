/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether an address is one of this host's. Main thread. */
#ifndef TPROXY_LOCAL_H
#define TPROXY_LOCAL_H

#include <stdbool.h>

#include "parse.h"

/*
 * True if packets to this address arrive within our network namespace. False if the address is gone
 * or has moved to another host, or while lo is down. Returns true if that cannot be determined.
 */
bool local_is_reached(const union sockaddr_any *addr);

/*
 * True if the address is the broadcast address of a network of this host. bind() and listen()
 * accept it, but no client can connect to it. Returns false if that cannot be determined.
 */
bool local_is_broadcast(const union sockaddr_any *addr);

/*
 * Returns a descriptor, owned by the caller, that becomes readable when addresses or devices of our
 * network namespace change. Returns -errno if there is none: the caller must then poll
 * local_is_reached().
 */
int local_watch(void);
/* Reads all messages from the descriptor. */
void local_watched(int fd);

#endif
