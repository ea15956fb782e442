// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See process_sockets.h. */
#include "process_sockets.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util.h"

/* Sets *ret_fd to a duplicate, or to -1 if the descriptor is no socket or was closed meanwhile. */
static int duplicate(int pidfd, DIR *dir, const char *name, int *ret_fd)
{
	char target[64];
	ssize_t len = readlinkat(dirfd(dir), name, target, sizeof(target) - 1);
	int fd;

	*ret_fd = -1;
	if (len < 0) /* EINVAL: "." and ".." */
		return errno == ENOENT || errno == EINVAL ? 0 : -errno;
	target[len] = '\0';
	if (strncmp(target, "socket:[", 8) != 0)
		return 0;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(name), 0);
	if (fd < 0)
		return errno == EBADF ? 0 : -errno;
	*ret_fd = fd;
	return 0;
}

int process_sockets_each(pid_t pid, process_socket_fn fn, void *data)
{
	_cleanup_closedir_ DIR *dir = NULL;
	_cleanup_close_ int pidfd = -1;
	struct dirent *entry;
	char path[64];
	int fd, r = 0;

	/*
	 * Open this first. If another process gets the number later, pidfd_getfd() fails with
	 * ESRCH.
	 */
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) /* EINVAL, ENOENT: the number of a thread */
		return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (r == 0 && (entry = readdir(dir))) {
		r = duplicate(pidfd, dir, entry->d_name, &fd);
		if (r == 0 && fd >= 0)
			r = fn(fd, data);
	}
	return r;
}
