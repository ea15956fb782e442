// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See cgroup.h. */
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

#include "util.h"

/* From include/linux/exportfs.h: a kernfs file handle is the 64-bit id of its node. */
#define FILEID_KERNFS 0xfe

static void closefile(FILE **f)
{
	if (*f)
		fclose(*f);
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* mountinfo writes space, tab, newline and backslash as \ooo (proc(5)). In place. */
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

int cgroup_root(char **ret_path)
{
	_cleanup_(closefile) FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	if (!f)
		return -errno;
	while (getline(&line, &size, f) >= 0) {
		char *type = strstr(line, " - "), *p = line, *mount_point = NULL;
		int i;

		if (!type || strncmp(type, " - cgroup2 ", 11) != 0)
			continue;
		/* id, parent, major:minor, root, mount point; other white space is not escaped */
		*type = '\0';
		for (i = 0; i < 5; i++)
			mount_point = strsep(&p, " ");
		if (!mount_point || !*mount_point)
			continue;
		unescape_octal(mount_point);
		*ret_path = strdup(mount_point);
		return *ret_path ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

static int id_of(int fd, uint64_t *ret_id)
{
	struct {
		struct file_handle handle;
		uint64_t id;
	} h = { .handle.handle_bytes = sizeof(uint64_t) };
	int mount_id;

	if (name_to_handle_at(fd, "", &h.handle, &mount_id, AT_EMPTY_PATH) < 0)
		return -errno;
	memcpy(ret_id, h.handle.f_handle, sizeof(*ret_id));
	return 0;
}

/* How many directories path is below root. */
static uint32_t depth_below(const char *path, const char *root)
{
	const char *p = path + strlen(root);
	uint32_t depth = 0;

	for (; *p; p++) {
		if (*p == '/' && p[1])
			depth++;
	}
	return depth;
}

int cgroup_open(const char *path, struct cgroup *ret_cgroup)
{
	_cleanup_free_ char *canonical = NULL, *root = NULL;
	_cleanup_close_ int fd = -1;
	struct statfs fs;
	uint64_t id = 0;
	uint32_t level;
	int r;

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
	r = id_of(fd, &id);
	if (r < 0)
		return r;
	r = cgroup_root(&root);
	if (r < 0)
		return r;
	/* Reached by another mount than the one that we found. */
	if (strncmp(canonical, root, strlen(root)) != 0)
		return -EXDEV;
	level = depth_below(canonical, root);
	*ret_cgroup = (struct cgroup){
		.path = TAKE_PTR(canonical),
		.fd = TAKE_FD(fd),
		.id = id,
		.level = level,
	};
	return 0;
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
	_cleanup_(closefile) FILE *f = NULL;
	char name[64];
	size_t size = 0;
	int r;

	r = cgroup_root(&root);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
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
	*ret_path = strdup(path);
	return *ret_path ? 0 : -ENOMEM;
}
