/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Marks on the listening sockets of a proxy that does not set them itself. */
#ifndef TPROXY_LOADER_MARKS_H
#define TPROXY_LOADER_MARKS_H

#include "tproxy_abi.h"

struct listener;

/*
 * Makes it a listener that connections may be redirected to, if our programs see it. One that is
 * marked already stays so all along, for connections may be going to it. *ret_before: the flags
 * that it had, 0 without a mark; set in case of an error too. Logs.
 */
int marks_set(int marks_fd, const char *pin_dir, const struct listener *l, __u32 *ret_before);

/* Gives it these flags back; 0: takes the mark away. */
void marks_restore(int marks_fd, const struct listener *l, __u32 before);

#endif
