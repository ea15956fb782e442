/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Asks the kernel half, without any privilege, whether it sees the connections of this process. */
#ifndef TPROXY_STATE_PROBE_H
#define TPROXY_STATE_PROBE_H

/*
 * Returns 1 if this process is in scope of tproxy's programs, loaded by whomever; 0 if not; or
 * -errno if no TCP socket can be made. Not logged.
 */
int probe_in_scope(void);

#endif
