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

#include "bpffs.h"
#include "host/namespaces.h"
#include "util.h"

int relays_read(int map_fd, struct relays_entry **ret_list, size_t *ret_n)
{
	_cleanup_free_ struct tproxy_relay *relays = NULL;
	_cleanup_free_ struct relays_entry *list = NULL;
	_cleanup_free_ __u64 *cookies = NULL;
	__u32 n = TPROXY_NAMESPACES_MAX, i;
	__u64 position;
	int r;

	cookies = calloc(n, sizeof(*cookies));
	relays = calloc(n, sizeof(*relays));
	list = calloc(n, sizeof(*list));
	if (!cookies || !relays || !list)
		return -ENOMEM;
	r = bpf_map_lookup_batch(map_fd, NULL, &position, cookies, relays, &n, NULL);
	if (r < 0 && r != -ENOENT) /* ENOENT: the last bucket was read */
		return r;
	for (i = 0; i < n; i++)
		list[i] = (struct relays_entry){ .netns_cookie = cookies[i], .relay = relays[i] };
	*ret_list = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

int relays_read_pinned(const char *pin_dir, struct relays_entry **ret_list, size_t *ret_n)
{
	_cleanup_close_ int fd = -1;
	int r = bpffs_open_map(pin_dir, PINNED_CONFIG, /* writable= */ false, &fd);

	return r < 0 ? r : relays_read(fd, ret_list, ret_n);
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
	_cleanup_fclose_ FILE *status = NULL;
	char path[64];

	if (!relay->alive_ns || !namespaces_is_initial(NAMESPACES_PID))
		return true;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = fopen(path, "re");
	return !status || may_open(status, pid, gid);
}
