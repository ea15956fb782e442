// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See cgroup.h. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "namespaces.h"
#include "util.h"

/* From include/linux/exportfs.h: the file handle of a kernfs node is its 64-bit id. */
#define FILEID_KERNFS 0xfe

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/*
 * Decodes, in place, the form \ooo in which mountinfo has space, tab, newline and backslash
 * (proc(5)).
 */
static void unescape_octal(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && is_octal(s[1]) && is_octal(s[2]) && is_octal(s[3])) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* A mount of cgroup2, from mountinfo. */
struct mount {
	int id;	     /* as name_to_handle_at(2) returns it */
	char *point; /* in the caller's line */
};

/*
 * Finds the next mount of cgroup2 in mountinfo; returns false at the end. ret_mount->point is a
 * part of *line, which the caller frees.
 */
static bool next_mount(FILE *f, char **line, size_t *size, struct mount *ret_mount)
{
	while (getline(line, size, f) >= 0) {
		char *type = strstr(*line, " - "), *p = *line, *point = NULL;
		int i;

		if (!type || strncmp(type, " - cgroup2 ", 11) != 0)
			continue;
		/*
		 * Fields are id, parent, major:minor, root, mount point. Split at spaces only:
		 * other white space is not escaped.
		 */
		*type = '\0';
		ret_mount->id = atoi(*line);
		for (i = 0; i < 5; i++)
			point = strsep(&p, " ");
		if (!point || !*point)
			continue;
		unescape_octal(point);
		ret_mount->point = point;
		return true;
	}
	return false;
}

/* Returns the cgroup's id, and the id of the mount through which it was opened. */
static int handle_of(int fd, uint64_t *ret_id, int *ret_mount_id)
{
	struct {
		struct file_handle handle;
		uint64_t id;
	} h = { .handle.handle_bytes = sizeof(uint64_t) };

	if (name_to_handle_at(fd, "", &h.handle, ret_mount_id, AT_EMPTY_PATH) < 0)
		return -errno;
	memcpy(ret_id, h.handle.f_handle, sizeof(*ret_id));
	return 0;
}

/*
 * Returns 1 if this mount shows the whole hierarchy and no other mount lies above it. Its root has
 * the number 1 then. (The upper half of an id is a generation, which 32-bit kernels begin at 1.)
 * The root of a cgroup namespace or of a bind mount has another number. Returns 0 otherwise, also
 * if the mount cannot be opened, and -errno if this process lacks descriptors or memory.
 */
static int is_whole(const struct mount *mount)
{
	_cleanup_close_ int fd = open(mount->point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t id = 0;
	int mount_id = 0;

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : 0;
	return handle_of(fd, &id, &mount_id) == 0 && mount_id == mount->id && (uint32_t)id == 1;
}

int cgroup_root(char **ret_path)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *line = NULL, *first = NULL;
	struct mount mount;
	size_t size = 0;

	if (!f)
		return -errno;
	while (next_mount(f, &line, &size, &mount)) {
		int whole = is_whole(&mount);

		if (whole < 0)
			return whole;
		if (first && !whole)
			continue;
		free(first);
		first = strdup(mount.point);
		if (!first)
			return -ENOMEM;
		if (whole)
			break;
	}
	if (!first)
		return -ENOENT;
	*ret_path = TAKE_PTR(first);
	return 0;
}

/*
 * Finds the mount point of a mount that shows the whole hierarchy. Returns -EXDEV if the mount
 * shows only a part of it.
 */
static int whole_mount_point(int mount_id, char **ret_point)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *line = NULL;
	struct mount mount;
	size_t size = 0;
	int r;

	if (!f)
		return -errno;
	while (next_mount(f, &line, &size, &mount)) {
		if (mount.id != mount_id)
			continue;
		r = is_whole(&mount);
		if (r <= 0)
			return r < 0 ? r : -EXDEV;
		*ret_point = strdup(mount.point);
		return *ret_point ? 0 : -ENOMEM;
	}
	return -EXDEV;
}

/* Returns the number of directories in a path that is "" or begins with a slash. */
static uint32_t depth_of(const char *path)
{
	uint32_t depth = 0;

	for (; *path; path++) {
		if (path[0] == '/' && path[1])
			depth++;
	}
	return depth;
}

int cgroup_open(const char *path, struct cgroup *ret_cgroup)
{
	_cleanup_free_ char *canonical = NULL, *point = NULL, *root = NULL, *name = NULL;
	_cleanup_close_ int fd = -1;
	const char *below;
	struct statfs fs;
	uint64_t id = 0;
	int mount_id = 0, r;

	canonical = realpath(path, NULL);
	if (!canonical)
		return -errno;
	fd = open(canonical, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != CGROUP2_SUPER_MAGIC)
		return -EMEDIUMTYPE;
	r = handle_of(fd, &id, &mount_id);
	if (r == 0)
		r = whole_mount_point(mount_id, &point);
	if (r == 0)
		r = cgroup_root(&root);
	if (r < 0)
		return r;
	if (strncmp(canonical, point, strlen(point)) != 0)
		return -EXDEV;
	/* Paths are compared with each other, so all of them begin at the same mount. */
	below = canonical + strlen(point);
	if (asprintf(&name, "%s%s", root, below) < 0) {
		name = NULL;
		return -ENOMEM;
	}
	*ret_cgroup = (struct cgroup){
		.path = TAKE_PTR(name),
		.fd = TAKE_FD(fd),
		.id = id,
		.level = depth_of(below),
	};
	return 0;
}

const char *cgroup_strerror(int r)
{
	if (r == -EMEDIUMTYPE)
		return "is not of the cgroup2 file system";
	if (r == -ENODEV)
		return "no cgroup2 file system is mounted";
	if (r == -EXDEV)
		return "is seen from a cgroup namespace or a mount of a part of cgroup2, which hides its place in the hierarchy; run this outside of the container";
	return strerror(-r);
}

void cgroup_close(struct cgroup *cgroup)
{
	util_closep(&cgroup->fd);
	free(cgroup->path);
	*cgroup = (struct cgroup)CGROUP_NULL;
}

int cgroup_open_of(pid_t pid, struct cgroup *ret_cgroup)
{
	_cleanup_free_ char *line = NULL, *root = NULL, *path = NULL;
	_cleanup_fclose_ FILE *f = NULL;
	char name[64];
	size_t size = 0;
	int r;

	/*
	 * In another cgroup namespace /proc/PID/cgroup shows the path below that namespace's root.
	 */
	if (!namespaces_is_initial(NAMESPACES_CGROUP))
		return -EXDEV;
	r = cgroup_root(&root);
	if (r < 0)
		return r == -ENOENT ? -ENODEV : r;
	if (pid)
		snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
	else
		snprintf(name, sizeof(name), "/proc/self/cgroup");
	f = fopen(name, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	while (getline(&line, &size, f) >= 0) {
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (asprintf(&path, "%s%s", root, line + 3) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		return cgroup_open(path, ret_cgroup);
	}
	return -ENOENT;
}

bool cgroup_is_within(const struct cgroup *cgroup, const struct cgroup *ancestor)
{
	size_t len = strlen(ancestor->path);

	return strncmp(cgroup->path, ancestor->path, len) == 0 &&
	       (cgroup->path[len] == '\0' || cgroup->path[len] == '/');
}

int cgroup_path_by_id(uint64_t id, char **ret_path)
{
	struct {
		struct file_handle handle;
		uint64_t id;
	} h = { .handle = { .handle_bytes = sizeof(id), .handle_type = FILEID_KERNFS } };
	_cleanup_close_ int root_fd = -1, fd = -1;
	_cleanup_free_ char *root = NULL;
	char link[64], path[PATH_MAX];
	ssize_t n;
	int r;

	r = cgroup_root(&root);
	if (r < 0)
		return r;
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return -errno;
	memcpy(h.handle.f_handle, &id, sizeof(id));
	fd = open_by_handle_at(root_fd, &h.handle, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	/* For a cgroup outside of the mounted part the kernel makes up a path. */
	if (strncmp(path, root, strlen(root)) != 0)
		return -EXDEV;
	*ret_path = strdup(path);
	return *ret_path ? 0 : -ENOMEM;
}
