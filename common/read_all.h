/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* read(2) until there is enough. */
#ifndef TPROXY_READ_ALL_H
#define TPROXY_READ_ALL_H

#include <stddef.h>
#include <sys/types.h>

/* Reads size bytes, or fewer if the file ends before. Returns their number or -errno. */
ssize_t read_all(int fd, void *bytes, size_t size);

#endif
