// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the lock of a process that waits for a confirmation, see wait_lock.h.
 *
 * A pinned array with BTF can be opened as a file that shows it as text, and that file can be
 * locked. A waiting process holds a read lock of its open file description, which does not conflict
 * with the lock of another waiting process. F_OFD_GETLK finds it without taking a lock.
 */
#include "wait_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "pins.h"
#include "util.h"

static int open_pin(const char *pin_dir, const char *pin)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	char path[PATH_MAX];
	int fd, r;

	r = pins_path(&pins, pin, path);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int wait_lock_take(const char *pin_dir, const char *pin)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	int fd = open_pin(pin_dir, pin), r;

	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

bool wait_lock_is_held(const char *pin_dir, const char *pin)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_close_ int fd = open_pin(pin_dir, pin);

	return fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}
