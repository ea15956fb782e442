// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Reads rule files and list files, see file.h. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

#define FIRST_ROOM 65536

int file_read(const char *path, size_t max, bool may_wait, char **ret_text, size_t *ret_len)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | (may_wait ? 0 : O_NONBLOCK));
	_cleanup_free_ char *text = NULL;
	size_t room = 0, len = 0;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!may_wait && S_ISFIFO(st.st_mode))
		return -ESPIPE;
	for (;;) {
		if (len == room) {
			char *grown;

			if (len > max)
				return -EFBIG;
			room = room ? 2 * room : FIRST_ROOM;
			grown = realloc(text, room);
			if (!grown)
				return -ENOMEM;
			text = grown;
		}
		n = read(fd, text + len, room - len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	if (len > max)
		return -EFBIG;
	*ret_text = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}

char *file_beside(const char *from, const char *path)
{
	const char *slash = strrchr(from, '/');
	char *beside = NULL;

	if (*path == '/' || !slash)
		return strdup(path);
	if (asprintf(&beside, "%.*s/%s", (int)(slash - from), from, path) < 0)
		return NULL;
	return beside;
}
