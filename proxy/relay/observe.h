/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Observed connections: the relay that serves logs their ends, as the kernel half reports them. Of
 * all relays on these pins, whatever their network namespace, one is the reader. Main thread.
 */
#ifndef TPROXY_OBSERVE_H
#define TPROXY_OBSERVE_H

#include <stdbool.h>

struct relay;

/*
 * Called when the relay has registered and every second, with whether it serves new connections.
 * Becomes the reader if there is none, or ends to be it.
 */
void observe_check(struct relay *relay, bool serves);
/* Reads what is there, so that another relay may take over. Accepts a relay that is no reader. */
void observe_end(struct relay *relay);

#endif
