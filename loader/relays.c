// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See relays.h. */
#include "relays.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "cgroup.h"
#include "log.h"
#include "namespaces.h"
#include "targets.h"
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

void relays_forget_dead(int map_fd)
{
	_cleanup_free_ struct relays_entry *list = NULL;
	size_t n, i;

	/* PIDs are those of the initial namespace: in another one they are other processes. */
	if (!namespaces_is_initial(NAMESPACES_PID))
		return;
	n = relays_read(map_fd, &list);
	for (i = 0; i < n; i++) {
		if (kill((pid_t)list[i].relay.pid, 0) == 0 || errno != ESRCH)
			continue;
		log_info("relay %u is gone, forgot its registration", list[i].relay.pid);
		bpf_map_delete_elem(map_fd, &list[i].netns_cookie);
	}
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

static bool is_taken(const struct relays *relays, __u64 cookie, __u32 pid)
{
	size_t i;

	for (i = 0; i < relays->n_taken; i++) {
		if (relays->taken[i].netns_cookie == cookie && relays->taken[i].relay.pid == pid)
			return true;
	}
	return false;
}

size_t relays_take_outside(int map_fd, const struct targets *targets, bool moved,
			   struct relays *relays)
{
	_cleanup_free_ struct relays_entry *list = NULL;
	size_t n = relays_read(map_fd, &list), taken = 0, i;
	struct relays_entry *grown;

	for (i = 0; i < n; i++) {
		if (!is_outside(&list[i].relay, targets, moved))
			continue;
		bpf_map_delete_elem(map_fd, &list[i].netns_cookie);
		taken++;
		if (is_taken(relays, list[i].netns_cookie, list[i].relay.pid))
			continue;
		grown = reallocarray(relays->taken, relays->n_taken + 1, sizeof(*grown));
		if (!grown)
			continue;
		relays->taken = grown;
		relays->taken[relays->n_taken++] = list[i];
	}
	return taken;
}

void relays_restore(int map_fd, const struct relays *relays)
{
	size_t i;

	for (i = 0; i < relays->n_taken; i++)
		bpf_map_update_elem(map_fd, &relays->taken[i].netns_cookie, &relays->taken[i].relay,
				    BPF_NOEXIST);
}

void relays_finish(struct relays *relays)
{
	free(relays->taken);
	*relays = (struct relays){};
}

size_t relays_count(int map_fd)
{
	_cleanup_free_ struct relays_entry *list = NULL;

	return relays_read(map_fd, &list);
}
