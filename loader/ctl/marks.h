/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Marks on the listening sockets of a proxy that does not set them itself. */
#ifndef TPROXY_CTL_MARKS_H
#define TPROXY_CTL_MARKS_H

#include "tproxy_abi.h"

struct listening_socket;

/*
 * Marks @l as a listener to which connections may be redirected, after checking that tproxy's
 * programs are attached where it was created. A complete mark is left as it is, because connections
 * may be on their way to the listener. *ret_before gets the previous flags, 0 without a mark, on
 * failure too. Returns 0 or -errno, logged.
 */
int marks_set(int marks_fd, const char *pin_dir, const struct listening_socket *l,
	      __u32 *ret_before);

/* Sets the flags of the mark to @before. 0 removes the mark. */
void marks_restore(int marks_fd, const struct listening_socket *l, __u32 before);

#endif
