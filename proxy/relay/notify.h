/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Notifications to the service manager, see sd_notify(3). */
#ifndef TPROXY_NOTIFY_H
#define TPROXY_NOTIFY_H

/*
 * Sends a state such as "READY=1". The manager accepts it only from the process that it started. If
 * that is the supervisor, supervisor_fd is supervisor_child::fd, and the supervisor passes the
 * state on. If it is this process, supervisor_fd is -1. Errors are ignored.
 */
void notify(int supervisor_fd, const char *state);

#endif
