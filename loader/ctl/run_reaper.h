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
 * Starts the background process for the caller, which becomes the command by execve(2). It is no
 * child of the caller, and stays in the caller's present cgroup. Returns a socket, which execve(2)
 * closes, or -errno, logged.
 */
int run_reaper_start(void);

/*
 * Sends the background process the cgroup, before the command enters it. @remove: remove the cgroup
 * when it is empty; otherwise systemd does. Returns 0 or -errno, logged.
 */
int run_reaper_watch(int socket_fd, const char *path, bool remove);

/*
 * Makes the background process log the command's observed connections. Returns 0 or -errno, logged.
 */
int run_reaper_observe(int socket_fd, const struct instance *instance);

#endif
