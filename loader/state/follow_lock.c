// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl. See follow_lock.h.
 *
 * The pin of an array with BTF can be opened as a file, which shows it as text and can be locked
 * (wait_lock.c does the same). The lock is on map_loads, whose pin only root may open: a member of
 * the relay's group that could open it could hold the lock. The kernel drops a record lock when its
 * process closes any descriptor of that file, so this pin has no other lock. bpf_obj_get() does not
 * open the file, so reading the map is no danger.
 */
#include "follow_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "objects.h"
#include "pins.h"
#include "util.h"

static int lock_path(const char *pin_dir, char path[PATH_MAX])
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };

	return pins_path(&pins, pinned_maps[PINNED_LOADS].name, path);
}

static bool is_same_file(int fd, const char *path)
{
	struct stat ours, now;

	return fd >= 0 && fstat(fd, &ours) == 0 && stat(path, &now) == 0 &&
	       ours.st_ino == now.st_ino && ours.st_dev == now.st_dev;
}

int follow_lock_take(const char *pin_dir, int *fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_close_ int opened = -1;
	char path[PATH_MAX];
	int r;

	r = lock_path(pin_dir, path);
	if (r < 0)
		return r;
	if (is_same_file(*fd, path))
		return 0;
	util_closep(fd);
	*fd = -1;
	opened = open(path, O_RDWR | O_CLOEXEC);
	if (opened < 0)
		return -errno;
	if (fcntl(opened, F_SETLK, &lock) < 0)
		return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
	*fd = TAKE_FD(opened);
	return 0;
}

pid_t follow_lock_holder(const char *pin_dir)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int r;

	r = lock_path(pin_dir, path);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0)
		return -errno;
	if (lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : 1;
}
