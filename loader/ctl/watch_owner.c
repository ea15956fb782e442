// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See watch_owner.h. */
#include "watch_owner.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cgroup.h"
#include "host/listeners.h"
#include "monotonic.h"
#include "util.h"

/* How long a result is cached. */
#define REMEMBER_MS 5000
/* Limit of the processes of one cgroup that are searched. */
#define PROCESSES_MAX 256

struct owner {
	uint64_t cgroup_id, netns_cookie, until_ms;
	uint16_t port;
	uint32_t pid;
	char comm[TPROXY_COMM_LEN + 1];
};

struct watch_owners {
	struct owner slots[256];
};

struct watch_owners *watch_owners_new(void)
{
	return calloc(1, sizeof(struct watch_owners));
}

void watch_owners_free(struct watch_owners *owners)
{
	free(owners);
}

/* Returns true if the process listens at the port, in that network namespace. */
static bool listens(pid_t pid, const struct owner *owner)
{
	const __u16 port = owner->port;
	struct listeners listeners;
	bool found = false;
	size_t i;

	if (listeners_dup(pid, &port, 1, &listeners) < 0)
		return false;
	for (i = 0; i < listeners.n; i++)
		found = found || (listeners.list[i].pid == pid &&
				  listeners.list[i].netns_cookie == owner->netns_cookie);
	listeners_finish(&listeners);
	return found;
}

static void read_comm(struct owner *owner)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/comm", owner->pid);
	file = fopen(path, "re");
	if (file && fgets(owner->comm, sizeof(owner->comm), file))
		owner->comm[strcspn(owner->comm, "\n")] = '\0';
}

/* Searches the processes of the cgroup. */
static void look_up(struct owner *owner)
{
	_cleanup_free_ char *cgroup = NULL, *path = NULL;
	_cleanup_fclose_ FILE *file = NULL;
	int n = 0, pid;

	if (cgroup_path_by_id(owner->cgroup_id, &cgroup) < 0)
		return;
	if (asprintf(&path, "%s/cgroup.procs", cgroup) < 0) {
		path = NULL;
		return;
	}
	file = fopen(path, "re");
	while (file && n++ < PROCESSES_MAX && fscanf(file, "%d", &pid) == 1) {
		if (pid <= 0 || !listens(pid, owner))
			continue;
		owner->pid = (uint32_t)pid;
		read_comm(owner);
		return;
	}
}

void watch_owners_set(struct watch_owners *owners, struct conn_row *row)
{
	const uint64_t now_ms = monotonic_coarse_ms();
	struct owner *owner;

	owner = &owners->slots[(row->cgroup_id * 31 + row->netns_cookie * 7 + row->dst.port) %
			       ARRAY_SIZE(owners->slots)];
	if (owner->cgroup_id != row->cgroup_id || owner->netns_cookie != row->netns_cookie ||
	    owner->port != row->dst.port || now_ms >= owner->until_ms) {
		*owner = (struct owner){
			.cgroup_id = row->cgroup_id,
			.netns_cookie = row->netns_cookie,
			.port = row->dst.port,
			.until_ms = now_ms + REMEMBER_MS,
		};
		look_up(owner);
	}
	row->pid = owner->pid;
	memcpy(row->comm, owner->comm, sizeof(row->comm));
}
