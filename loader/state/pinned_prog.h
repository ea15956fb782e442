/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Pinned programs: "prog_" and the name of their hook. */
#ifndef TPROXY_PINNED_PROG_H
#define TPROXY_PINNED_PROG_H

#include <linux/types.h>

/*
 * Opens the program of a hook, such as "connect4" or "xdp". Returns a descriptor, which the caller
 * closes, or -errno, not logged.
 */
int pinned_prog_open(const char *pin_dir, const char *hook);
/* Returns its id; 0: there is none, or it cannot be read. */
__u32 pinned_prog_id(const char *pin_dir, const char *hook);

#endif
