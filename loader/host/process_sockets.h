/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The sockets that another process holds, duplicated with pidfd_getfd(2). */
#ifndef TPROXY_HOST_PROCESS_SOCKETS_H
#define TPROXY_HOST_PROCESS_SOCKETS_H

#include <sys/types.h>

/* Gets a duplicate, which it owns. Returns 0 to go on. */
typedef int (*process_socket_fn)(int fd, void *data);

/*
 * Calls fn for each socket of this process alone, once for each descriptor. Returns 0; the first
 * other result of fn; -ESRCH if there is no such process; -EPERM or -EACCES without permission; or
 * another -errno. Not logged.
 */
int process_sockets_each(pid_t pid, process_socket_fn fn, void *data);

#endif
