/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tproxy-load --follow: keeps up with interfaces and with time, for what is pinned. */
#ifndef TPROXY_LOAD_FOLLOW_H
#define TPROXY_LOAD_FOLLOW_H

/*
 * Runs until SIGTERM or SIGINT, and leaves everything attached. Returns 0 or -errno, logged; -EBUSY
 * if another process serves this pin directory.
 */
int follow(const char *pin_dir);

#endif
