/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Notifications to the service manager, see sd_notify(3). */
#ifndef TPROXY_NOTIFY_H
#define TPROXY_NOTIFY_H

/*
 * Sends a state such as "READY=1". guardian_fd: guardian_child::fd, and the guardian passes the
 * state on, because the manager accepts it only from the process that it started. -1: this process
 * is the one. Errors are ignored.
 */
void notify(int guardian_fd, const char *state);

#endif
