/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Other processes, as /proc and kill(2) show them. PIDs are those of our own PID namespace. */
#ifndef TPROXY_HOST_PROCESS_H
#define TPROXY_HOST_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Returns true if a process has this PID. It may have ended, if its parent has not waited yet. */
bool process_exists(pid_t pid);

/* Returns the state letter of /proc/PID/stat, such as 'S' or 'Z'; '?' if there is no process. */
char process_state(pid_t pid);

/* Returns the PID of the parent, or 0 if there is no process. */
pid_t process_parent(pid_t pid);

/*
 * Reads the PID of the process that a thread belongs to. Returns 0, -ESRCH if there is no such
 * thread, or another -errno.
 */
int process_of_thread(pid_t tid, pid_t *ret_pid);

/*
 * Read the real UID and the real GID. The owner of /proc/PID is another user if the process is not
 * dumpable. Return 0, -ESRCH if there is no process, or another -errno.
 */
int process_uid(pid_t pid, uid_t *ret_uid);
int process_gid(pid_t pid, gid_t *ret_gid);

/*
 * Reads the effective capabilities, one bit for each. @pid 0 is this process, whatever PID
 * namespace /proc shows. Returns 0, -ESRCH if there is no process, or another -errno.
 */
int process_capabilities(pid_t pid, uint64_t *ret_caps);

#endif
