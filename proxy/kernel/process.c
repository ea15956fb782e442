// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See process.h. The pid may belong to another process by now, or to another PID namespace, and the
 * process may have moved. The id of a cgroup is the inode number of its directory and is not
 * reused, so a path whose directory has this number is right whatever process told it.
 */
#include "process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

/* Where systemd mounts the unified hierarchy; the second one is beside those of version 1. */
static const char *const cgroup_roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };

/* Reads /proc/PID/cgroup. Returns its length, or -1. */
static ssize_t read_cgroups(uint32_t pid, char *buf, size_t size)
{
	_cleanup_close_ int fd = -1;
	char file[32];
	ssize_t n;

	snprintf(file, sizeof(file), "/proc/%" PRIu32 "/cgroup", pid);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, size - 1);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

/* Returns the path in the line of the unified hierarchy, "0::/path", or NULL. */
static char *unified_path(char *text)
{
	char *line, *rest = text;

	while ((line = strsep(&rest, "\n"))) {
		/* Without a newline after it, the line may be cut. */
		if (strncmp(line, "0::/", 4) == 0)
			return rest ? line + 3 : NULL;
	}
	return NULL;
}

static bool has_id(const char *path, uint64_t cgroup_id)
{
	char dir[2 * PROCESS_CGROUP_LEN];
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(cgroup_roots); i++) {
		snprintf(dir, sizeof(dir), "%s%s", cgroup_roots[i], path);
		if (stat(dir, &st) == 0 && st.st_ino == cgroup_id)
			return true;
	}
	return false;
}

const char *process_cgroup(uint32_t pid, uint64_t cgroup_id, char buf[PROCESS_CGROUP_LEN])
{
	char text[2 * PROCESS_CGROUP_LEN];
	char *path;

	if (!pid || read_cgroups(pid, text, sizeof(text)) < 0)
		return NULL;
	path = unified_path(text);
	if (!path || strlen(path) >= PROCESS_CGROUP_LEN || !has_id(path, cgroup_id))
		return NULL;
	return strcpy(buf, path);
}
