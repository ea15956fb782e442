/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How the relay ends: drain, deadline and hand-over to the next relay. Main thread. */
#ifndef TPROXY_SHUTDOWN_H
#define TPROXY_SHUTDOWN_H

struct relay;

/*
 * Adds the events of SIGTERM, SIGINT and SIGQUIT and, if relay->supervisor_fd is set, that of the
 * supervisor's end. Returns 0 or -ENOMEM.
 */
int shutdown_init(struct relay *relay);

#endif
