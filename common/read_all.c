// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See read_all.h. */
#include "read_all.h"

#include <errno.h>
#include <unistd.h>

ssize_t read_all(int fd, void *bytes, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size) {
		n = read(fd, (char *)bytes + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}
