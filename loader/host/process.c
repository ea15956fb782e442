// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See process.h. */
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

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
	const char *end = NULL;
	bool found;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(line, sizeof(line), f))
		end = strrchr(line, ')');
	found = end && sscanf(end, ") %c %d", ret_state, ret_parent) == 2;
	fclose(f);
	return found;
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

int process_uid(pid_t pid, uid_t *ret_uid)
{
	char path[64], line[256];
	int r = -ESRCH;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && r < 0 && fgets(line, sizeof(line), f))
		r = sscanf(line, "Uid: %u", ret_uid) == 1 ? 0 : -ESRCH;
	if (f)
		fclose(f);
	return r;
}
