/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The lock of tproxy-load --follow: one such process serves a pin directory. It is a record lock on
 * the pin of map_loads, so it ends with the process, and the kernel tells who holds it. Only root
 * can open that pin. The lock is independent of the lock of the directory, which a loader holds for
 * a moment.
 */
#ifndef TPROXY_STATE_FOLLOW_LOCK_H
#define TPROXY_STATE_FOLLOW_LOCK_H

#include <sys/types.h>

/*
 * Takes the lock, and keeps one that is taken already. After an unload and a load the pin is
 * another file, and the lock is taken there. *fd is -1 at first; close it to give the lock up.
 * Returns 0, -ENOENT if nothing is loaded, -EBUSY if another process has the lock, or another
 * -errno. Not logged.
 */
int follow_lock_take(const char *pin_dir, int *fd);

/*
 * Returns the PID of the process that has the lock, 0 if there is none, or -errno. The PID is 1 if
 * the process is in a PID namespace that is not visible here.
 */
pid_t follow_lock_holder(const char *pin_dir);

#endif
