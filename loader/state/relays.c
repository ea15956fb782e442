// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load, and tproxyctl doctor. See relays.h. */
#include "relays.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/namespaces.h"
#include "util.h"

size_t relays_read(int map_fd, struct relays_entry **ret_list)
{
	struct relays_entry *list = calloc(TPROXY_NAMESPACES_MAX, sizeof(*list));
	__u64 *prev = NULL, cookie;
	size_t n = 0, tries;

	*ret_list = list;
	for (tries = 0; list && tries < TPROXY_NAMESPACES_MAX &&
			bpf_map_get_next_key(map_fd, prev, &cookie) == 0;
	     tries++) {
		list[n].netns_cookie = cookie;
		if (bpf_map_lookup_elem(map_fd, &cookie, &list[n].relay) == 0)
			n++;
		prev = &cookie;
	}
	return n;
}

static bool has_group(const char *list, gid_t gid)
{
	unsigned long long each;
	char *end;

	for (;; list = end) {
		each = strtoull(list, &end, 10);
		if (end == list)
			return false;
		if (each == gid)
			return true;
	}
}

/* A capability in another user namespace does not apply to files of this one. */
static bool in_our_user_namespace(pid_t pid)
{
	struct stat own, other;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	return stat("/proc/self/ns/user", &own) == 0 && stat(path, &other) == 0 &&
	       own.st_ino == other.st_ino;
}

/*
 * Reads /proc/PID/status, see proc(5). The last of the four ids is the one that counts for files.
 */
static bool may_open(FILE *status, pid_t pid, gid_t gid)
{
	unsigned long long capabilities = 0;
	char line[4096];
	bool may = false;
	unsigned int id;

	while (fgets(line, sizeof(line), status)) {
		if (sscanf(line, "Uid: %*u %*u %*u %u", &id) == 1)
			may |= id == 0;
		else if (sscanf(line, "Gid: %*u %*u %*u %u", &id) == 1)
			may |= id == gid;
		else if (strncmp(line, "Groups:", 7) == 0)
			may |= has_group(line + 7, gid);
		else if (sscanf(line, "CapEff: %llx", &capabilities) == 1)
			may |= capabilities >> CAP_DAC_OVERRIDE & 1 && in_our_user_namespace(pid);
	}
	return may;
}

bool relays_can_open(const struct tproxy_relay *relay, gid_t gid)
{
	const pid_t pid = (pid_t)relay->pid;
	char path[64];
	FILE *status;
	bool may;

	if (!relay->alive_ns || !namespaces_is_initial(NAMESPACES_PID))
		return true;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = fopen(path, "re");
	if (!status)
		return true;
	may = may_open(status, pid, gid);
	fclose(status);
	return may;
}

size_t relays_count(int map_fd)
{
	_cleanup_free_ struct relays_entry *list = NULL;

	return relays_read(map_fd, &list);
}
