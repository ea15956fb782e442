// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the lock of a process that waits for a confirmation, see rules_wait.h.
 *
 * A pinned array with BTF can be opened as a file that shows it as text, and that file can be
 * locked. A waiting process holds a read lock of its open file description, which does not conflict
 * with the lock of another waiting process. F_OFD_GETLK finds it without taking a lock.
 */
#include "rules_wait.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "objects.h"
#include "pins.h"
#include "util.h"

static int open_previous(const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	char path[PATH_MAX];
	int fd, r;

	r = pins_path(&pins, PINNED_PREVIOUS, path);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int rules_wait_begin(const char *pin_dir)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	int fd = open_previous(pin_dir), r;

	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

bool rules_wait_is_attended(const char *pin_dir)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_close_ int fd = open_previous(pin_dir);

	return fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

bool rules_wait_is_abandoned(const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	char path[PATH_MAX];

	return pins_path(&pins, PINNED_PREVIOUS, path) == 0 && access(path, F_OK) == 0 &&
	       !rules_wait_is_attended(pin_dir);
}
