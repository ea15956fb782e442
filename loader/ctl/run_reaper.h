/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The background process of `tproxyctl run`. It waits until the command and everything that the
 * command has started have ended, and removes their cgroup.
 */
#ifndef TPROXY_CTL_RUN_REAPER_H
#define TPROXY_CTL_RUN_REAPER_H

#include <stdbool.h>

struct instance;

/*
 * Starts it for the calling process, which becomes the command by execve(2). It is no child of this
 * process, and stays in the cgroup in which this process is now. Returns a socket, to be closed by
 * execve(2), or -errno, logged.
 */
int run_reaper_start(void);

/*
 * Tells it the cgroup, before the command enters it. @remove: remove it when it is empty; otherwise
 * systemd does. Returns 0 or -errno, logged.
 */
int run_reaper_watch(int socket_fd, const char *path, bool remove);

/* Lets it log the observed connections of the command. Returns 0 or -errno, logged. */
int run_reaper_observe(int socket_fd, const struct instance *instance);

#endif
