// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the pin directory, see pins.h.
 *
 * It must lie in a BPF file system and must not be its root. pins_open() resolves symbolic links,
 * creates the directory if asked, checks it, and locks it with flock(2). Another loader may remove
 * the directory while this one waits for the lock. So inode and device are compared with those of
 * the path afterwards, and if they differ, everything is tried again.
 *
 * A pin is tproxy's if this version pins something by that name, and the object there has the right
 * kind and kernel name. Nothing else is replaced or removed. Pins belong to root and to the group
 * of relays (access.h).
 *
 * If the root of the BPF file system is closed to others, its search bit is set. The policy of one
 * pin directory (opened_bpffs) records that the bit has to be cleared. On unload this duty passes
 * to another pin directory that needs the bit.
 */
#include "pins.h"

#include <bpf/bpf.h>
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
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "access.h"
#include "bpffs.h"
#include "hooks.h"
#include "log.h"
#include "tproxy_abi.h"
#include "util.h"

#define BPFFS_DEFAULT "/sys/fs/bpf"
/* Another loader may remove the directory while we open it. */
#define OPEN_TRIES	10
#define LOCK_TIMEOUT_MS 30000
#define LOCK_POLL_MS	50

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
	if (r == -ENOENT && lstat(path, &st) < 0 && parent_of(path, parent) == 0) {
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
	log_err("pin directory '%s': %s", path,
		r == -ENOENT ? "is a symbolic link to nothing" : strerror(-r));
	return r;
}

/*
 * Returns 0 if the parent directory is in a BPF file system, or 1 if it is /sys/fs/bpf and none is
 * mounted there yet. Returns -errno, logged.
 */
static int find_bpffs(const char *path, char parent[PATH_MAX])
{
	int r;

	r = parent_of(path, parent);
	if (r < 0) {
		log_err("pin directory '%s': %s", path, strerror(-r));
		return r;
	}
	if (is_bpffs(parent))
		return 0;
	if (strcmp(parent, BPFFS_DEFAULT) == 0)
		return 1;
	log_err("pin directory '%s': '%s' is not in a BPF file system; choose a directory below " BPFFS_DEFAULT,
		path, parent);
	return -EMEDIUMTYPE;
}

/* The parent must be in a BPF file system. Mounts one if the parent is /sys/fs/bpf. */
static int need_bpffs(const char *path)
{
	char parent[PATH_MAX];
	int r;

	r = find_bpffs(path, parent);
	if (r <= 0)
		return r;
	if (mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0) {
		r = -errno;
		log_err("cannot mount a BPF file system at '%s': %s", parent, strerror(-r));
		return r;
	}
	log_info("mounted a BPF file system at '%s'", parent);
	return 0;
}

/* Creates the directory if it does not exist. *ret_created says whether it was created. */
static int make_dir(const char *path, bool *ret_created)
{
	int r;

	*ret_created = false;
	if (access(path, F_OK) == 0)
		return 0;
	r = need_bpffs(path);
	if (r < 0)
		return r;
	*ret_created = mkdir(path, PINS_DIR_MODE_ROOT) == 0;
	if (*ret_created || errno == EEXIST)
		return 0;
	r = -errno;
	log_err("cannot make pin directory '%s': %s", path, strerror(-r));
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

	if (!is_bpffs(path)) {
		log_err("pin directory '%s' is not in a BPF file system; choose a directory below " BPFFS_DEFAULT,
			path);
		return -EMEDIUMTYPE;
	}
	if (fstat(fd, &own) < 0 || fstatat(fd, "..", &parent, 0) < 0 || fstatvfs(fd, &fs) < 0) {
		int r = -errno;

		log_err("cannot look at pin directory '%s': %s", path, strerror(-r));
		return r;
	}
	if (own.st_dev != parent.st_dev) {
		log_err("pin directory '%s' is where a BPF file system is mounted, with the pins of others; choose a directory below it",
			path);
		return -EBUSY;
	}
	if (fs.f_flag & ST_RDONLY) {
		log_err("pin directory '%s' is in a BPF file system that is mounted read-only; see 'mount -o remount,rw'",
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
			r == -EBUSY ? "another tproxy-load holds it" : strerror(-r));
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
		r = find_bpffs(real, parent);
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
	log_err("pin directory '%s' comes and goes", path);
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

static bool is_map(const char *name)
{
	size_t i;

	for (i = 0; i < n_map_access; i++) {
		if (strcmp(name, map_access[i].name) == 0)
			return true;
	}
	return false;
}

/* Also accepts the temporary name under which load.c pins a program. */
static const struct hook *hook_of_program(const char *name)
{
	size_t i, len;

	if (strncmp(name, "prog_", 5) != 0)
		return NULL;
	name += 5;
	for (i = 0; i < n_hooks; i++) {
		len = strlen(hooks[i].name);
		if (strncmp(name, hooks[i].name, len) == 0 &&
		    (!name[len] || strcmp(name + len, "_new") == 0))
			return &hooks[i];
	}
	return NULL;
}

static const struct hook *hook_of_link(const char *name)
{
	char hook[PINS_LINK_LEN], again[PINS_LINK_LEN];
	uint64_t id;

	if (pins_parse_link(name, hook, &id) < 0)
		return NULL;
	pins_format_link(hook, id, again);
	return strcmp(name, again) == 0 ? hook_by_name(hook) : NULL;
}

/*
 * bpf_obj_get() opens maps, programs and links alike, and the kernel fills the info of another kind
 * without an error. The link in /proc names the kind.
 */
static bool is_kind(int fd, const char *kind)
{
	char path[64], text[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, text, sizeof(text) - 1);
	text[len < 0 ? 0 : len] = '\0';
	return strncmp(text, "anon_inode:", 11) == 0 && strcmp(text + 11, kind) == 0;
}

/* The kernel keeps 15 bytes of a name (BPF_OBJ_NAME_LEN is 16). */
static bool is_named(const char kernel_name[BPF_OBJ_NAME_LEN], const char *name)
{
	return strncmp(kernel_name, name, BPF_OBJ_NAME_LEN - 1) == 0;
}

static bool is_our_map(int fd, const char *name)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	return is_kind(fd, "bpf-map") && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
	       is_named(info.name, name);
}

static bool is_our_program(int fd, const struct hook *hook)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	char name[PINS_LINK_LEN];

	snprintf(name, sizeof(name), "tproxy_%s", hook->name);
	return is_kind(fd, "bpf-prog") && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
	       is_named(info.name, name);
}

static bool is_our_link(int fd, const struct hook *hook)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int prog_fd = -1;

	if (!is_kind(fd, "bpf_link") && !is_kind(fd, "bpf-link"))
		return false;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0 || info.type != BPF_LINK_TYPE_CGROUP)
		return false;
	prog_fd = bpf_prog_get_fd_by_id(info.prog_id);
	return prog_fd >= 0 ? is_our_program(prog_fd, hook) : errno == EPERM;
}

bool pins_is_ours(const struct pins *pins, const char *name)
{
	const struct hook *program = hook_of_program(name), *link = hook_of_link(name);
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];

	if ((!is_map(name) && !program && !link) || pins_path(pins, name, path) < 0)
		return false;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == EACCES || errno == EPERM || errno == EROFS;
	if (program)
		return is_our_program(fd, program);
	return link ? is_our_link(fd, link) : is_our_map(fd, name);
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
	    fchmod(pins->fd, gid ? PINS_DIR_MODE_GROUP : PINS_DIR_MODE_ROOT) < 0) {
		r = -errno;
		log_err("cannot set owner and mode of '%s': %s", pins->path, strerror(-r));
		return r;
	}
	return 0;
}

/*
 * Returns true if @name is another pin directory beside this one whose group needs the search bit.
 * Its policy then says that it has to clear the bit when it is unloaded. A directory with another
 * layout of map_policy cannot be given that duty, and is ignored.
 */
static bool hand_over(const char *parent, const char *name)
{
	struct tproxy_policy policy;
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	struct stat st;
	__u32 key = 0;

	if (snprintf(path, sizeof(path), "%s/%s", parent, name) >= (int)sizeof(path) ||
	    lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || !(st.st_mode & S_IXGRP) || !st.st_gid)
		return false;
	if (bpffs_open_map(path, "map_policy", sizeof(key), sizeof(policy), /* writable= */ true,
			   &fd) < 0 ||
	    bpf_map_lookup_elem(fd, &key, &policy) < 0)
		return false;
	policy.opened_bpffs = 1;
	return bpf_map_update_elem(fd, &key, &policy, BPF_EXIST) == 0;
}

/* Returns true if another pin directory needs the search bit, and has taken over clearing it. */
static bool is_needed(const struct pins *pins, const char *parent)
{
	_cleanup_(closedirp) DIR *dir = opendir(parent);
	const char *own = strrchr(pins->path, '/') + 1;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (*entry->d_name != '.' && strcmp(entry->d_name, own) != 0 &&
		    hand_over(parent, entry->d_name))
			return true;
	}
	return false;
}

void pins_close_bpffs(const struct pins *pins)
{
	char parent[PATH_MAX];
	struct stat st;

	if (parent_of(pins->path, parent) < 0 || !is_bpffs(parent) || stat(parent, &st) < 0)
		return;
	if (is_needed(pins, parent))
		log_debug(
			"left the search bit for others on '%s', which another pin directory needs",
			parent);
	else if (chmod(parent, st.st_mode & 07777 & ~S_IXOTH) < 0)
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
