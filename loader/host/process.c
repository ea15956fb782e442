// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See process.h. */
#include "process.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

bool process_exists(pid_t pid)
{
	return kill(pid, 0) == 0 || errno != ESRCH;
}

/*
 * Reads state and parent from /proc/PID/stat. They follow the name, which may contain any byte.
 * Returns false if there is no process.
 */
static bool read_stat(pid_t pid, char *ret_state, int *ret_parent)
{
	char path[64], line[1024];
	_cleanup_fclose_ FILE *f = NULL;
	const char *end = NULL;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(line, sizeof(line), f))
		end = strrchr(line, ')');
	return end && sscanf(end, ") %c %d", ret_state, ret_parent) == 2;
}

char process_state(pid_t pid)
{
	int parent;
	char state;

	return read_stat(pid, &state, &parent) ? state : '?';
}

pid_t process_parent(pid_t pid)
{
	int parent;
	char state;

	return read_stat(pid, &state, &parent) ? parent : 0;
}

/*
 * Finds a line of /proc/PID/status, for @pid 0 of this process, and reads what follows @key.
 * Returns 0, -ESRCH if there is no process, or another -errno.
 */
static int read_status(pid_t pid, const char *key, char *line, int size)
{
	const size_t len = strlen(key);
	_cleanup_fclose_ FILE *f = NULL;
	char path[64];

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/status", pid);
	else
		snprintf(path, sizeof(path), "/proc/self/status");
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	while (fgets(line, size, f)) {
		if (strncmp(line, key, len) == 0) {
			memmove(line, line + len, strlen(line + len) + 1);
			return 0;
		}
	}
	return -ESRCH;
}

/* Reads the number after @key. Of the four ids of a user or group, the first is the real one. */
static int read_id(pid_t pid, const char *key, unsigned int *ret_id)
{
	char line[256];
	int r = read_status(pid, key, line, sizeof(line));

	if (r < 0)
		return r;
	return sscanf(line, "%u", ret_id) == 1 ? 0 : -ESRCH;
}

int process_uid(pid_t pid, uid_t *ret_uid)
{
	return read_id(pid, "Uid:", ret_uid);
}

int process_gid(pid_t pid, gid_t *ret_gid)
{
	return read_id(pid, "Gid:", ret_gid);
}

int process_of_thread(pid_t tid, pid_t *ret_pid)
{
	unsigned int pid;
	int r = read_id(tid, "Tgid:", &pid);

	if (r == 0)
		*ret_pid = (pid_t)pid;
	return r;
}

int process_capabilities(pid_t pid, uint64_t *ret_caps)
{
	char line[256];
	int r = read_status(pid, "CapEff:", line, sizeof(line));

	if (r < 0)
		return r;
	return sscanf(line, "%" SCNx64, ret_caps) == 1 ? 0 : -ESRCH;
}
