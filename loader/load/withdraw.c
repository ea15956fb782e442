// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load. See withdraw.h. */
#include "withdraw.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "host/cgroup.h"
#include "host/namespaces.h"
#include "host/process.h"
#include "log.h"
#include "state/relays.h"
#include "targets.h"
#include "util.h"

void withdraw_dead(int map_fd)
{
	_cleanup_free_ struct relays_entry *list = NULL;
	size_t n = 0, i;

	/* The map holds PIDs of the initial PID namespace. */
	if (!namespaces_is_initial(NAMESPACES_PID))
		return;
	relays_read(map_fd, &list, &n);
	for (i = 0; i < n; i++) {
		if (process_exists((pid_t)list[i].relay.pid))
			continue;
		log_info("removed the registration of relay %u, whose process has ended",
			 list[i].relay.pid);
		bpf_map_delete_elem(map_fd, &list[i].netns_cookie);
	}
}

void withdraw_all(int map_fd)
{
	_cleanup_free_ struct relays_entry *list = NULL;
	size_t n = 0, i;

	relays_read(map_fd, &list, &n);
	for (i = 0; i < n; i++)
		bpf_map_delete_elem(map_fd, &list[i].netns_cookie);
}

static bool is_outside(const struct tproxy_relay *relay, const struct targets *targets, bool moved)
{
	struct cgroup cgroup = CGROUP_NULL;
	bool outside = moved;

	if (namespaces_is_initial(NAMESPACES_PID) &&
	    cgroup_open_of((pid_t)relay->pid, &cgroup) == 0)
		outside = !targets_serve(targets, &cgroup);
	cgroup_close(&cgroup);
	return outside;
}

static bool is_taken(const struct withdrawn *withdrawn, __u64 cookie, __u32 pid)
{
	size_t i;

	for (i = 0; i < withdrawn->n; i++) {
		if (withdrawn->list[i].netns_cookie == cookie &&
		    withdrawn->list[i].relay.pid == pid)
			return true;
	}
	return false;
}

size_t withdraw_outside(int map_fd, const struct targets *targets, bool moved, gid_t gid,
			struct withdrawn *to)
{
	_cleanup_free_ struct relays_entry *list = NULL;
	struct relays_entry *grown;
	size_t n = 0, taken = 0, i;

	relays_read(map_fd, &list, &n);
	for (i = 0; i < n; i++) {
		list[i].shut_out = !is_outside(&list[i].relay, targets, moved);
		if (list[i].shut_out && relays_can_open(&list[i].relay, gid))
			continue;
		bpf_map_delete_elem(map_fd, &list[i].netns_cookie);
		taken++;
		if (is_taken(to, list[i].netns_cookie, list[i].relay.pid))
			continue;
		grown = reallocarray(to->list, to->n + 1, sizeof(*grown));
		if (!grown)
			continue;
		to->list = grown;
		to->list[to->n++] = list[i];
	}
	return taken;
}

void withdraw_restore(int map_fd, const struct withdrawn *withdrawn)
{
	size_t i;

	for (i = 0; i < withdrawn->n; i++)
		bpf_map_update_elem(map_fd, &withdrawn->list[i].netns_cookie,
				    &withdrawn->list[i].relay, BPF_NOEXIST);
}

void withdraw_finish(struct withdrawn *withdrawn)
{
	free(withdrawn->list);
	*withdrawn = (struct withdrawn){};
}
