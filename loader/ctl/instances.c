// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl explain. See instances.h.
 *
 * An instance without pins is found by its connect4 program, which the kernel lists for the cgroup.
 * The program has all maps that decide. A map counts only if its name and its sizes are those of
 * this version, so that no value is longer than the structure that it is read into.
 */
#include "instances.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/cgroup_programs.h"
#include "log.h"
#include "state/direct.h"
#include "state/inner_maps.h"
#include "state/policy.h"
#include "util.h"

/* Keeps the descriptor of a map if the map has this name, which the kernel cuts, and layout. */
static void keep_map(struct gather *g, const struct bpf_map_info *map, int *fd)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(g->maps); i++) {
		if (g->maps[i] < 0 &&
		    strncmp(map->name, pinned_maps[i].name, sizeof(map->name) - 1) == 0 &&
		    map->key_size == pinned_maps[i].key_size &&
		    map->value_size == pinned_maps[i].value_size) {
			g->maps[i] = TAKE_FD(*fd);
			return;
		}
	}
}

/* Opens the maps of a program. Returns 0 or -errno. */
static int open_maps(struct gather *g, __u32 prog_id)
{
	_cleanup_close_ int prog_fd = bpf_prog_get_fd_by_id(prog_id);
	__u32 ids[2 * _PINNED_MAP_MAX];
	struct bpf_prog_info prog = { .nr_map_ids = ARRAY_SIZE(ids), .map_ids = (uintptr_t)ids };
	__u32 len = sizeof(prog), i;
	int r;

	r = prog_fd < 0 ? prog_fd : bpf_obj_get_info_by_fd(prog_fd, &prog, &len);
	for (i = 0; r == 0 && i < prog.nr_map_ids && i < ARRAY_SIZE(ids); i++) {
		_cleanup_close_ int fd = bpf_map_get_fd_by_id(ids[i]);
		struct bpf_map_info map = {};

		len = sizeof(map);
		r = fd < 0 ? fd : bpf_obj_get_info_by_fd(fd, &map, &len);
		if (r == 0)
			keep_map(g, &map, &fd);
	}
	return r;
}

/* Reads the rules of the maps that are open. Returns 0 or -errno. */
static int read_rules(struct gather *g)
{
	_cleanup_free_ struct tproxy_rules *rules = malloc(sizeof(*rules));
	_cleanup_close_ int fd = -1, sets_fd = -1;
	const __u32 key = 0;
	int r;

	if (!rules)
		return -ENOMEM;
	r = inner_map_open(g->maps[PINNED_RULES], 0, &fd);
	if (r == 0)
		r = bpf_map_lookup_elem(fd, &key, rules);
	if (r == 0 && rules->needs & TPROXY_NEEDS_SETS)
		r = inner_map_open(g->maps[PINNED_SETS], rules->sets_slot, &sets_fd);
	if (r == 0)
		rule_facts_take(&g->rules, TAKE_PTR(rules), TAKE_FD(sets_fd), g->caller);
	return r;
}

/* Returns 0, -EPROTO if the instance is of another ABI version, or another -errno. */
static int init_other(struct gather *g, const char *pin_dir, const struct caller *caller,
		      __u32 prog_id)
{
	int r;

	gather_prepare(g, pin_dir, caller);
	g->other = prog_id;
	r = open_maps(g, prog_id);
	if (r == 0)
		r = g->maps[PINNED_POLICY] < 0 ? -EPROTO
					       : policy_read(g->maps[PINNED_POLICY], &g->policy);
	if (r == 0 && g->policy.abi_version != TPROXY_ABI_VERSION)
		r = -EPROTO;
	return r < 0 ? r : read_rules(g);
}

/*
 * Reads the instances without pins. One that cannot be read, such as that of another version, is
 * left out with a warning. Returns 0 or -ENOMEM.
 */
static int read_others(struct instances *all)
{
	struct gather *pinned = &all->pinned;
	const struct cgroup *cgroup = &pinned->caller->cgroup;
	struct cgroup_programs programs;
	__u32 i;
	int r;

	direct_others(pinned->pin_dir, &hooks[HOOK_CONNECT4], cgroup, &programs);
	all->others = calloc(programs.n + 1, sizeof(*all->others));
	if (!all->others)
		return -ENOMEM;
	for (i = 0; i < programs.n; i++) {
		struct gather *other = &all->others[all->n_others];

		r = init_other(other, pinned->pin_dir, pinned->caller, programs.id[i]);
		if (r == 0) {
			all->n_others++;
			continue;
		}
		gather_finish(other);
		log_warning(
			"another instance of tproxy, as of tproxyctl run, also decides for '%s' and cannot be read: %s; the verdict does not consider it",
			cgroup->path, strerror(-r));
	}
	pinned->n_others = programs.n;
	for (i = 0; i < all->n_others; i++)
		all->others[i].n_others = programs.n;
	return 0;
}

int instances_init(struct instances *all, const char *pin_dir, const struct caller *caller)
{
	int r;

	*all = (struct instances){};
	r = gather_init(&all->pinned, pin_dir, caller);
	if (r < 0)
		return r;
	r = read_others(all);
	if (r < 0)
		log_err("out of memory");
	return r;
}

void instances_finish(struct instances *all)
{
	unsigned int i;

	for (i = 0; i < all->n_others; i++)
		gather_finish(&all->others[i]);
	free(all->others);
	gather_finish(&all->pinned);
}
