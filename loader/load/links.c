// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the pinned links, see links.h.
 *
 * A link attaches the program of one hook to one cgroup. Its pin, link_NAME_<cgroup id>, keeps it
 * attached after the loader has ended. A load gives an existing link the new program
 * (pinned_link.h). Missing links are attached in the order of objects.h, connect last. The hooks of
 * UDP and of the block list are wanted only while something needs them; state/on_demand.c attaches
 * and detaches them when rules or lists are loaded later.
 *
 * A link is stale if the load does not want it, because its cgroup is no longer one of the targets.
 * A link is dead if the kernel has detached it, because its cgroup was removed; its pin stays until
 * the next load or unload. Dead links are removed at once. Stale ones that running connections
 * still need are kept.
 */
#include "links.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "bpffs.h"
#include "created.h"
#include "host/cgroup.h"
#include "log.h"
#include "objects.h"
#include "programs.h"
#include "state/pinned_link.h"
#include "state/pins.h"
#include "targets.h"
#include "util.h"

static int attach(const struct bpf_object *object, const struct hook *hook,
		  const struct cgroup *cgroup, const struct pins *pins, struct created *created)
{
	char name[PINS_LINK_LEN];
	bool is_new;
	int r;

	r = pinned_link_attach(pins, hook, cgroup, bpf_program__fd(programs_find(object, hook)),
			       &is_new);
	pins_format_link(hook->name, cgroup->id, name);
	if (is_new)
		created_add(created, name);
	return r;
}

int links_attach(const struct bpf_object *object, const struct targets *targets,
		 const struct pins *pins, struct created *created)
{
	size_t i, j;
	int r;

	for (i = 0; i < _HOOK_MAX; i++) {
		if (targets_want_relay(targets, &hooks[i])) {
			r = attach(object, &hooks[i], &targets->relay, pins, created);
			if (r < 0)
				return r;
		}
		for (j = 0; targets_want_scopes(targets, &hooks[i]) && j < targets->n_scopes; j++) {
			r = attach(object, &hooks[i], &targets->scopes[j], pins, created);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static bool has_connections(const struct pins *pins, int socks_fd)
{
	__u64 cookie;

	bpffs_sweep(pins->path);
	return bpf_map_get_next_key(socks_fd, NULL, &cookie) == 0;
}

static bool is_wanted(const struct targets *t, const struct hook *hook, uint64_t cgroup_id)
{
	size_t i;

	if (targets_want_relay(t, hook) && cgroup_id == t->relay.id)
		return true;
	for (i = 0; targets_want_scopes(t, hook) && i < t->n_scopes; i++) {
		if (cgroup_id == t->scopes[i].id)
			return true;
	}
	return false;
}

/* A dead link: its cgroup was removed, and no socket of that cgroup is left. */
static bool is_dead_link(const struct pins *pins, const char *name)
{
	struct pinned_link link;

	return pinned_link_read(pins, name, &link) == 0 && !link.attached;
}

/* Arguments and results of detach_if_stale(). */
struct stale {
	const struct targets *targets;
	int socks_fd;
	size_t n_kept;
	int error; /* the first one; the other links are detached all the same */
};

/* True if the hook also serves, or cleans up after, connections that are redirected already. */
static bool serves_connections(const struct hook *hook)
{
	return strncmp(hook->name, "connect", 7) != 0 && hook->need == HOOK_NEED_NONE;
}

/*
 * A callback of pins_for_each(): detaches a link of an earlier load that this load does not want. A
 * link that serves redirected connections stays as long as there are any.
 */
static int detach_if_stale(struct pins *pins, const char *name, void *data)
{
	struct stale *stale = data;
	const struct hook *hook;
	char hook_name[PINS_LINK_LEN];
	uint64_t id;
	int r;

	if (pins_parse_link(name, hook_name, &id) < 0)
		return 0;
	hook = hook_by_name(hook_name);
	if (hook && is_wanted(stale->targets, hook, id))
		return 0;
	if (hook && serves_connections(hook) && has_connections(pins, stale->socks_fd) &&
	    !is_dead_link(pins, name)) {
		stale->n_kept++;
		return 0;
	}
	log_debug("'%s' is wanted no more", name);
	r = pinned_link_remove(pins, name);
	if (r < 0 && stale->error == 0)
		stale->error = r;
	return 0;
}

int links_detach_stale(struct pins *pins, const struct targets *targets, int socks_fd,
		       size_t *ret_kept)
{
	struct stale stale = { .targets = targets, .socks_fd = socks_fd };
	int r = pins_for_each(pins, detach_if_stale, &stale);

	*ret_kept = stale.n_kept;
	return r < 0 ? r : stale.error;
}
