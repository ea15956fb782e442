// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run --write-rules: the file, see run_file.h.
 *
 * A rule file that ends too early allows less or more than it should, and an empty one refuses
 * nothing. So the rules are written into a new file beside it, which then replaces it. If that is
 * not possible, because the directory is read-only or the file is a mount point, the file itself is
 * written. The path is used again at the end, because the command may have removed the file.
 */
#include "run_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

/* Opens a regular file to write it. Returns a descriptor or -errno, not logged. */
static int open_regular(const char *path, int flags)
{
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags, 0644);
	struct stat st;
	int r = 0;

	if (fd < 0)
		return errno == ENXIO ? -EINVAL : -errno; /* a FIFO that nobody reads */
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = -EINVAL;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int log_unwritable(const char *path, int r)
{
	log_err("run: cannot write '%s': %s", path,
		r == -EINVAL ? "it is not a regular file" : strerror(-r));
	return r;
}

int run_file_check(const char *path)
{
	int fd = open_regular(path, 0);

	if (fd == -ENOENT) {
		fd = open_regular(path, O_CREAT | O_EXCL);
		if (fd >= 0 && unlink(path) < 0)
			log_warning("run: cannot remove '%s': %s", path, strerror(errno));
	}
	if (fd < 0)
		return log_unwritable(path, fd);
	close(fd);
	return 0;
}

/* Prints into the file, and closes it. */
static int print_to(int fd, void (*print)(FILE *f, const void *data), const void *data)
{
	FILE *f = fdopen(fd, "w");
	bool failed;
	int r;

	if (!f) {
		r = -errno;
		close(fd);
		return r;
	}
	errno = 0;
	print(f, data);
	failed = fflush(f) != 0 || ferror(f) || fsync(fd) < 0;
	r = failed ? (errno ? -errno : -EIO) : 0;
	if (fclose(f) != 0 && r == 0)
		r = -errno;
	return r;
}

/* Gives the new file the owner and the mode of the old one, if there is one. */
static int copy_access(const char *path, int fd)
{
	const mode_t mask = umask(0);
	struct stat st;

	umask(mask);
	if (stat(path, &st) < 0)
		return errno == ENOENT && fchmod(fd, 0644 & ~mask) == 0 ? 0 : -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return fchown(fd, st.st_uid, st.st_gid) < 0 || fchmod(fd, st.st_mode & 07777) < 0 ? -errno
											  : 0;
}

static int write_beside(const char *path, void (*print)(FILE *f, const void *data),
			const void *data)
{
	_cleanup_free_ char *real = realpath(path, NULL), *other = NULL;
	int fd, r;

	/* A symbolic link stays. */
	if (real)
		path = real;
	if (asprintf(&other, "%s.XXXXXX", path) < 0)
		return -ENOMEM;
	fd = mkostemp(other, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = copy_access(path, fd);
	if (r < 0)
		close(fd);
	else
		r = print_to(fd, print, data);
	if (r == 0 && rename(other, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(other);
	return r;
}

static int write_in_place(const char *path, void (*print)(FILE *f, const void *data),
			  const void *data)
{
	int fd = open_regular(path, O_CREAT);
	int r;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, 0) == 0)
		return print_to(fd, print, data);
	r = -errno;
	close(fd);
	return r;
}

int run_file_write(const char *path, void (*print)(FILE *f, const void *data), const void *data)
{
	int r = write_beside(path, print, data);

	if (r == -EACCES || r == -EPERM || r == -EROFS || r == -EBUSY)
		r = write_in_place(path, print, data);
	return r < 0 ? log_unwritable(path, r) : 0;
}
