/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the service manager is told, see sd_notify(3). */
#ifndef TPROXY_NOTIFY_H
#define TPROXY_NOTIFY_H

/*
 * state: "READY=1" and the like. guardian_fd: the guardian passes it on, see guardian.h, for the
 * manager listens to the process that it started; -1: we are that process. Not being heard is no
 * error.
 */
void notify(int guardian_fd, const char *state);

#endif
