/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Notifications to the service manager, see sd_notify(3). */
#ifndef TPROXY_NOTIFY_H
#define TPROXY_NOTIFY_H

/*
 * Sends a state such as "READY=1". supervisor_fd: supervisor_child::fd, and the supervisor passes
 * the state on, because the manager accepts it only from the process that it started. -1: this
 * process is the one. Errors are ignored.
 */
void notify(int supervisor_fd, const char *state);

#endif
