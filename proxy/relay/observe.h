/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Observed connections: the relay that serves logs their ends, as the kernel half reports them. One
 * relay is the reader, of all relays on these pins in any network namespace. Main thread.
 */
#ifndef TPROXY_OBSERVE_H
#define TPROXY_OBSERVE_H

#include <stdbool.h>

struct relay;

/*
 * Called when the relay has registered, and every second. serves: the relay serves new connections.
 * If so, and if it logs connections, it becomes the reader unless there is one. Otherwise it stops
 * being the reader.
 */
void observe_check(struct relay *relay, bool serves);
/*
 * Reads all events in the ring and releases it, so that another relay can become the reader. Does
 * nothing if this relay is not the reader.
 */
void observe_end(struct relay *relay);

#endif
