/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * --drain-in-background: the process that was started does not serve. It is the guardian of a child
 * that does, and ends at once when it is told to. The child sees that, and drains without it. So
 * a service manager, which starts the next relay only when this one has ended, need not wait for
 * the last connection, and there is no moment without a relay.
 */
#ifndef TPROXY_GUARDIAN_H
#define TPROXY_GUARDIAN_H

/*
 * Forks; to be called before there are threads. In the child returns 0, and *ret_fd is the
 * guardian, owned by the caller: readable (end of file) when it is gone, and takes what notify()
 * says. In the guardian returns 1 when it is to exit with *ret_status. -errno, logged.
 */
int guardian_run(int *ret_fd, int *ret_status);

#endif
