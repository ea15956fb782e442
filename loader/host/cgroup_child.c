// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl run. See cgroup_child.h. */
#include "cgroup_child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"
#include "escape.h"
#include "util.h"

/* Limit of cgroups with the same PID in their name: PIDs repeat in other PID namespaces. */
#define NAMES_MAX 100
/* Depth of the cgroups that a command may have made below its own. */
#define DEPTH_MAX 16

int cgroup_child_make(const struct cgroup *parent, const char *name, struct cgroup *ret_child)
{
	const char *suffix = strrchr(name, '.');
	const int len = suffix ? (int)(suffix - name) : (int)strlen(name);
	char path[PATH_MAX];
	int i, n, r;

	for (i = 0; i < NAMES_MAX; i++) {
		if (i == 0)
			n = snprintf(path, sizeof(path), "%s/%s", parent->path, name);
		else
			n = snprintf(path, sizeof(path), "%s/%.*s-%d%s", parent->path, len, name, i,
				     suffix ? suffix : "");
		if (n < 0 || (size_t)n >= sizeof(path))
			return -ENAMETOOLONG;
		if (mkdir(path, 0755) == 0) {
			r = cgroup_open(path, ret_child);
			if (r < 0)
				rmdir(path);
			return r;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int cgroup_child_enter(const struct cgroup *cgroup)
{
	_cleanup_close_ int fd = openat(cgroup->fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1)
		return -errno;
	return 0;
}

int cgroup_child_watch(const struct cgroup *cgroup, int *ret_fd)
{
	int fd = openat(cgroup->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int cgroup_child_is_populated(int events_fd)
{
	char text[256];
	ssize_t n = pread(events_fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return errno == ENODEV ? 0 : -errno;
	text[n] = '\0';
	return strstr(text, "populated 1") != NULL;
}

static int remove_at(int parent_fd, const char *name, int depth)
{
	_cleanup_closedir_ DIR *dir = NULL;
	const struct dirent *entry;
	int fd;

	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY || depth == DEPTH_MAX)
		return -errno;
	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_type == DT_DIR && *entry->d_name != '.')
			remove_at(fd, entry->d_name, depth + 1);
	}
	return unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 ? 0 : -errno;
}

int cgroup_child_remove(const char *path)
{
	return remove_at(AT_FDCWD, path, 0);
}

static void add_process(const char *pid, char *text, size_t *n)
{
	char path[64], name[32] = "", shown[ESCAPE_LEN(sizeof(name))];
	size_t used = strlen(text);
	FILE *f;

	if ((*n)++ && used && strcmp(text + used - 3, "...") == 0)
		return;
	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
	escape_text(name, strlen(name), shown, sizeof(shown));
	if (used + strlen(pid) + strlen(shown) + sizeof(", , ...") > CGROUP_CHILD_LIST_LEN)
		snprintf(text + used, CGROUP_CHILD_LIST_LEN - used, ", ...");
	else
		snprintf(text + used, CGROUP_CHILD_LIST_LEN - used, "%s%s %s", used ? ", " : "",
			 pid, shown);
}

static void list_at(int parent_fd, const char *name, int depth, char *text, size_t *n)
{
	_cleanup_closedir_ DIR *dir = NULL;
	const struct dirent *entry;
	char pid[32];
	int fd, procs;
	FILE *f;

	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return;
	procs = openat(fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	f = procs < 0 ? NULL : fdopen(procs, "r");
	while (f && fgets(pid, sizeof(pid), f)) {
		pid[strcspn(pid, "\n")] = '\0';
		add_process(pid, text, n);
	}
	if (f)
		fclose(f);
	while (depth < DEPTH_MAX && (entry = readdir(dir))) {
		if (entry->d_type == DT_DIR && *entry->d_name != '.')
			list_at(fd, entry->d_name, depth + 1, text, n);
	}
}

size_t cgroup_child_list(const char *path, char text[CGROUP_CHILD_LIST_LEN])
{
	size_t n = 0;

	*text = '\0';
	list_at(AT_FDCWD, path, 0, text, &n);
	return n;
}
