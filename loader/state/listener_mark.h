/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The mark of a listener, found by its address as connect4 and connect6 find it: a small program
 * calls the same helpers with BPF_PROG_RUN, in the network namespace of this process. It changes
 * nothing and is closed with listener_mark_close(). Takes root.
 */
#ifndef TPROXY_STATE_LISTENER_MARK_H
#define TPROXY_STATE_LISTENER_MARK_H

#include "tproxy_abi.h"

/* One program for each family; -1: not loaded yet. */
struct listener_mark {
	int fds[_TPROXY_FAMILY_MAX];
};

#define LISTENER_MARK_NULL                                                                         \
	{                                                                                          \
		.fds = { -1, -1 }                                                                  \
	}

/*
 * Reads the flags (enum tproxy_mark_flags) of the listener that a SYN to @ep reaches; 0 if there is
 * none or it has no mark. @marks_fd is map_marks. Returns 0 or -errno, not logged.
 */
int listener_mark_read(struct listener_mark *programs, int marks_fd,
		       const struct tproxy_endpoint *ep, __u32 *ret_flags);
void listener_mark_close(struct listener_mark *programs);

#endif
