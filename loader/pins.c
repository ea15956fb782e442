// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See pins.h. */
#include "pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

#define BPFFS_DEFAULT "/sys/fs/bpf"
/* A directory that another loader removes while we open it. */
#define OPEN_TRIES	   10
#define LOCK_TIMEOUT_MS	   30000
#define LOCK_POLL_MS	   50
#define PIN_DIR_MODE_ROOT  0700
#define PIN_DIR_MODE_GROUP 0750

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static int parent_of(const char *path, char ret_parent[PATH_MAX])
{
	char copy[PATH_MAX];

	if (strlen(path) >= sizeof(copy))
		return -ENAMETOOLONG;
	strcpy(copy, path);
	strcpy(ret_parent, dirname(copy));
	return 0;
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

/* A new pin directory needs a bpffs to be made in. The one that every host has is mounted. */
static int need_bpffs(const char *path)
{
	char parent[PATH_MAX];
	int r;

	r = parent_of(path, parent);
	if (r < 0) {
		log_err("pin directory '%s': %s", path, strerror(-r));
		return r;
	}
	if (is_bpffs(parent))
		return 0;
	if (access(parent, F_OK) < 0) {
		r = -errno;
		log_err("pin directory '%s': '%s': %s", path, parent, strerror(-r));
		return r;
	}
	if (strcmp(parent, BPFFS_DEFAULT) != 0) {
		log_err("pin directory '%s': '%s' is not in a BPF file system; mount one with 'mount -t bpf bpf %s'",
			path, parent, parent);
		return -EMEDIUMTYPE;
	}
	if (mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0) {
		r = -errno;
		log_err("cannot mount a BPF file system at '%s': %s", parent, strerror(-r));
		return r;
	}
	log_info("mounted a BPF file system at '%s'", parent);
	return 0;
}

/* 0: locked; -ESTALE: it was removed while we waited. */
static int lock(const char *path, int fd)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_MS * 1000000L };
	struct stat locked, now;
	int waited_ms;

	for (waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += LOCK_POLL_MS) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (waited_ms == 0)
			log_info("another tproxy-load works on '%s', waiting", path);
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

int pins_open(const char *path, bool create, struct pins *ret_pins)
{
	_cleanup_close_ int fd = -1;
	int tries = OPEN_TRIES, r;
	bool created;

	do {
		if (tries-- == 0) {
			log_err("pin directory '%s' comes and goes", path);
			return -EAGAIN;
		}
		r = -ESTALE;
		util_closep(&fd);
		fd = -1;
		created = false;
		if (create && access(path, F_OK) < 0) {
			r = need_bpffs(path);
			if (r < 0)
				return r;
			created = mkdir(path, PIN_DIR_MODE_ROOT) == 0;
			if (!created && errno != EEXIST) {
				r = -errno;
				log_err("cannot make pin directory '%s': %s", path, strerror(-r));
				return r;
			}
		}
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0) {
			r = -errno;
			if (r == -ENOENT && !create)
				return r;
			if (r == -ENOENT)
				continue; /* removed by another loader since */
			log_err("pin directory '%s': %s", path, strerror(-r));
			return r;
		}
		if (!is_bpffs(path)) {
			log_err("pin directory '%s' is not in a BPF file system", path);
			return -EMEDIUMTYPE;
		}
		r = lock(path, fd);
		if (r == -ESTALE && !create)
			return -ENOENT;
	} while (r == -ESTALE);
	if (r < 0) {
		log_err("cannot lock pin directory '%s': %s", path,
			r == -EBUSY ? "another tproxy-load holds it" : strerror(-r));
		return r;
	}
	*ret_pins = (struct pins){ .path = path, .fd = TAKE_FD(fd), .created = created };
	return 0;
}

void pins_close(struct pins *pins)
{
	util_closep(&pins->fd);
	pins->fd = -1;
}

int pins_for_each(struct pins *pins, int (*fn)(struct pins *pins, const char *name, void *data),
		  void *data)
{
	_cleanup_(closedirp) DIR *dir = opendir(pins->path);
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

bool pins_is_ours(const char *name)
{
	return strncmp(name, "map_", 4) == 0 || strncmp(name, "prog_", 5) == 0 ||
	       strncmp(name, "link_", 5) == 0;
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
	char hook[PINS_LINK_LEN];
	uint64_t id;
	int end = 0;

	if (sscanf(name, "link_%31[a-z0-9]_%" SCNx64 "%n", hook, &id, &end) != 2 || name[end])
		return -EINVAL;
	strcpy(ret_hook, hook);
	*ret_cgroup_id = id;
	return 0;
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

bool pins_bpffs_is_closed(const struct pins *pins)
{
	char parent[PATH_MAX];
	struct stat st;

	return parent_of(pins->path, parent) == 0 && is_bpffs(parent) && stat(parent, &st) == 0 &&
	       !(st.st_mode & S_IXOTH);
}

int pins_open_bpffs(const struct pins *pins)
{
	char parent[PATH_MAX];
	struct stat st;
	int r;

	r = parent_of(pins->path, parent);
	if (r == 0 && (stat(parent, &st) < 0 || chmod(parent, (st.st_mode & 07777) | S_IXOTH) < 0))
		r = -errno;
	if (r < 0)
		log_err("cannot let the relay's group into '%s': %s", parent, strerror(-r));
	else
		log_debug("set the search bit for others on '%s', so that relays reach '%s'",
			  parent, pins->path);
	return r;
}

int pins_open_to_group(const struct pins *pins, gid_t gid)
{
	int r;

	if (fchown(pins->fd, 0, gid) < 0 ||
	    fchmod(pins->fd, gid ? PIN_DIR_MODE_GROUP : PIN_DIR_MODE_ROOT) < 0) {
		r = -errno;
		log_err("cannot set owner and mode of '%s': %s", pins->path, strerror(-r));
		return r;
	}
	return 0;
}

void pins_close_bpffs(const struct pins *pins)
{
	char parent[PATH_MAX];
	struct stat st;

	if (parent_of(pins->path, parent) == 0 && is_bpffs(parent) && stat(parent, &st) == 0 &&
	    chmod(parent, st.st_mode & 07777 & ~S_IXOTH) < 0)
		log_warning("cannot take the search bit for others back from '%s': %s, ignoring",
			    parent, strerror(errno));
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
