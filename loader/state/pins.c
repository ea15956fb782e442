// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the pin directory, see pins.h.
 *
 * It must lie in a BPF file system and must not be its root. pins_open() resolves symbolic links,
 * creates the directory if asked, checks it, and locks it with flock(2). Another loader may remove
 * the directory while this one waits for the lock. So inode and device are compared with those of
 * the path afterwards, and if they differ, everything is tried again.
 *
 * All later work on the directory goes through its locked descriptor or its real path, so a
 * symbolic link that changes does not divert it. Pins belong to root and to the group of relays
 * (objects.h). A pin is found by name here; owned.h tells whether it is tproxy's.
 */
#include "pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "host/bpffs_mount.h"
#include "log.h"
#include "util.h"

/* Another loader may remove the directory while we open it. */
#define OPEN_TRIES	10
#define LOCK_TIMEOUT_MS 30000
#define LOCK_POLL_MS	50

/*
 * Returns in *ret_path, which the caller frees, the absolute path without symbolic links. The
 * directory itself may be missing, but not its parent: its real parent must be known, and a
 * relative path is of no use in a message. Logs.
 */
static int resolve(const char *path, char **ret_path)
{
	char parent[PATH_MAX], copy[PATH_MAX];
	_cleanup_free_ char *real = realpath(path, NULL);
	struct stat st;
	int r;

	if (real) {
		*ret_path = TAKE_PTR(real);
		return 0;
	}
	r = -errno;
	if (r == -ENOENT && lstat(path, &st) < 0 && bpffs_mount_parent(path, parent) == 0) {
		real = realpath(parent, NULL);
		if (real) {
			strcpy(copy, path);
			return asprintf(ret_path, "%s/%s", strcmp(real, "/") == 0 ? "" : real,
					basename(copy)) < 0
				       ? -ENOMEM
				       : 0;
		}
		r = -errno;
		log_err("pin directory '%s': '%s': %s", path, parent, strerror(-r));
		return r;
	}
	/* bpf_lookup() in kernel/bpf/inode.c reserves such names. */
	if (r == -EPERM && strchr(path, '.'))
		log_err("pin directory '%s': names in a BPF file system cannot have a '.'; choose another name",
			path);
	else
		log_err("pin directory '%s': %s", path,
			r == -ENOENT ? "is a dangling symbolic link" : strerror(-r));
	return r;
}

/* Creates the directory if it does not exist. *ret_created says whether it was created. */
static int make_dir(const char *path, bool *ret_created)
{
	int r;

	*ret_created = false;
	if (faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0)
		return 0;
	r = bpffs_mount_need(path);
	if (r < 0)
		return r;
	*ret_created = mkdir(path, PINS_DIR_MODE_ROOT) == 0;
	if (*ret_created || errno == EEXIST)
		return 0;
	r = -errno;
	log_err("cannot create pin directory '%s': %s", path, strerror(-r));
	return r;
}

/*
 * tproxy-load will chmod, empty and remove the directory, so it must be its own and in a BPF file
 * system.
 */
static int check_dir(const char *path, int fd)
{
	struct stat own, parent;
	struct statvfs fs;

	if (!bpffs_mount_holds(path)) {
		log_err("pin directory '%s' is not in a BPF file system; choose a directory below " BPFFS_MOUNT_DEFAULT,
			path);
		return -EMEDIUMTYPE;
	}
	if (fstat(fd, &own) < 0 || fstatat(fd, "..", &parent, 0) < 0 || fstatvfs(fd, &fs) < 0) {
		int r = -errno;

		log_err("cannot examine pin directory '%s': %s", path, strerror(-r));
		return r;
	}
	if (own.st_dev != parent.st_dev) {
		log_err("pin directory '%s' is the root of a BPF file system, which other programs use too; choose a directory below it",
			path);
		return -EBUSY;
	}
	if (fs.f_flag & ST_RDONLY) {
		log_err("pin directory '%s' is in a BPF file system that is mounted read-only; remount it with 'mount -o remount,rw'",
			path);
		return -EROFS;
	}
	return 0;
}

/*
 * Returns 0 if locked, -ESTALE if the directory was removed meanwhile, -EBUSY after 30 s, or
 * another -errno. Not logged.
 */
static int lock(const char *path, int fd)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_MS * 1000000L };
	struct stat locked, now;
	int waited_ms;

	for (waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += LOCK_POLL_MS) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (waited_ms == 0)
			log_info(
				"waiting for another tproxy-load or tproxyctl, which has locked '%s'",
				path);
		if (waited_ms >= LOCK_TIMEOUT_MS)
			return -EBUSY;
		nanosleep(&pause, NULL);
	}
	if (fstat(fd, &locked) < 0)
		return -errno;
	if (stat(path, &now) < 0 || now.st_ino != locked.st_ino || now.st_dev != locked.st_dev)
		return -ESTALE;
	return 0;
}

/*
 * One attempt. Returns -ESTALE (removed by another loader meanwhile) and -ENOENT without logging.
 */
static int open_dir(const char *path, int *ret_fd)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0) {
		r = -errno;
		if (r != -ENOENT)
			log_err("pin directory '%s': %s", path, strerror(-r));
		return r;
	}
	r = check_dir(path, fd);
	if (r < 0)
		return r;
	r = lock(path, fd);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	else if (r != -ESTALE)
		log_err("cannot lock pin directory '%s': %s", path,
			r == -EBUSY ? "another tproxy-load or tproxyctl holds the lock"
				    : strerror(-r));
	return r;
}

int pins_check(const char *path)
{
	_cleanup_free_ char *real = NULL;
	_cleanup_close_ int fd = -1;
	char parent[PATH_MAX];
	struct stat st;
	int r;

	if (geteuid() != 0 && stat(path, &st) < 0 && errno == EACCES)
		return 0;
	r = resolve(path, &real);
	if (r < 0)
		return r;
	fd = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		return check_dir(real, fd);
	if (errno == ENOENT) {
		r = bpffs_mount_find(real, parent);
		return r < 0 ? r : 0;
	}
	r = -errno;
	log_err("pin directory '%s': %s", real, strerror(-r));
	return r;
}

int pins_open(const char *path, bool create, struct pins *ret_pins)
{
	_cleanup_free_ char *real = NULL;
	int tries, fd = -1, r;
	bool created = false;

	r = resolve(path, &real);
	if (r < 0)
		return r;
	for (tries = 0; tries < OPEN_TRIES; tries++) {
		if (create) {
			r = make_dir(real, &created);
			if (r < 0)
				return r;
		}
		r = open_dir(real, &fd);
		if (r == -ENOENT || r == -ESTALE) {
			if (create)
				continue;
			return -ENOENT;
		}
		if (r < 0)
			return r;
		*ret_pins = (struct pins){ .path = real, .fd = fd, .created = created };
		ret_pins->real = TAKE_PTR(real);
		return 0;
	}
	log_err("pin directory '%s' keeps being removed by another process", path);
	return -EAGAIN;
}

void pins_close(struct pins *pins)
{
	util_closep(&pins->fd);
	free(pins->real);
	*pins = (struct pins)PINS_NULL;
}

int pins_for_each(struct pins *pins, int (*fn)(struct pins *pins, const char *name, void *data),
		  void *data)
{
	_cleanup_closedir_ DIR *dir = opendir(pins->path);
	struct dirent *entry;
	int r;

	if (!dir) {
		r = -errno;
		log_err("cannot read pin directory '%s': %s", pins->path, strerror(-r));
		return r;
	}
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = fn(pins, entry->d_name, data);
		if (r)
			return r;
	}
	return 0;
}

int pins_path(const struct pins *pins, const char *name, char ret_path[PATH_MAX])
{
	int n = snprintf(ret_path, PATH_MAX, "%s/%s", pins->path, name);

	if (n < 0 || n >= PATH_MAX) {
		log_err("pin directory '%s': %s", pins->path, strerror(ENAMETOOLONG));
		return -ENAMETOOLONG;
	}
	return 0;
}

bool pins_exists(const struct pins *pins, const char *name)
{
	return faccessat(pins->fd, name, F_OK, 0) == 0;
}

void pins_format_link(const char *hook, uint64_t cgroup_id, char buf[PINS_LINK_LEN])
{
	snprintf(buf, PINS_LINK_LEN, "link_%s_%" PRIx64, hook, cgroup_id);
}

int pins_parse_link(const char *name, char ret_hook[PINS_LINK_LEN], uint64_t *ret_cgroup_id)
{
	/* The name of a hook may have an underscore, so the id follows the last one. */
	const char *last = strrchr(name, '_');
	char hook[PINS_LINK_LEN];
	int end = 0, hook_end = 0;
	uint64_t id;

	if (!last || sscanf(name, "link_%50[a-z0-9_]%n", hook, &hook_end) != 1 || name[hook_end])
		return -EINVAL;
	if (last < name + 6 || sscanf(last, "_%" SCNx64 "%n", &id, &end) != 1 || last[end])
		return -EINVAL;
	hook[last - name - 5] = '\0';
	strcpy(ret_hook, hook);
	*ret_cgroup_id = id;
	return 0;
}

char *pins_format_again(const char *pin_dir, char buf[PINS_AGAIN_LEN])
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	if (strcmp(pin_dir, TPROXY_PIN_DIR) == 0)
		return strcpy(buf, "tproxy-load --again");
	snprintf(buf, PINS_AGAIN_LEN, "tproxy-load --again --pin-dir %s",
		 shell_quote(pin_dir, quoted, sizeof(quoted)));
	return buf;
}

char *pins_format_option(const char *pin_dir, char buf[PINS_OPTION_LEN])
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	*buf = '\0';
	if (strcmp(pin_dir, TPROXY_PIN_DIR) != 0)
		snprintf(buf, PINS_OPTION_LEN, " -p %s",
			 shell_quote(pin_dir, quoted, sizeof(quoted)));
	return buf;
}

int pins_set_access(const struct pins *pins, const char *name, gid_t gid, mode_t mode)
{
	int r;

	if (fchownat(pins->fd, name, 0, gid, 0) < 0 || fchmodat(pins->fd, name, mode, 0) < 0) {
		r = -errno;
		log_err("cannot set owner and mode of '%s/%s': %s", pins->path, name, strerror(-r));
		return r;
	}
	return 0;
}

int pins_open_to_group(const struct pins *pins, gid_t gid)
{
	int r;

	if (fchown(pins->fd, 0, gid) < 0 ||
	    fchmod(pins->fd, gid ? PINS_DIR_MODE_GROUP : PINS_DIR_MODE_ROOT) < 0) {
		r = -errno;
		log_err("cannot set owner and mode of '%s': %s", pins->path, strerror(-r));
		return r;
	}
	return 0;
}

int pins_remove(const struct pins *pins, const char *name)
{
	int r;

	if (unlinkat(pins->fd, name, 0) < 0 && errno != ENOENT) {
		r = -errno;
		log_err("cannot remove '%s/%s': %s", pins->path, name, strerror(-r));
		return r;
	}
	return 0;
}

int pins_remove_dir(struct pins *pins)
{
	int r;

	if (rmdir(pins->path) < 0) {
		r = -errno;
		log_err("cannot remove pin directory '%s': %s", pins->path, strerror(-r));
		return r;
	}
	return 0;
}
