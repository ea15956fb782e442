// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load's main job, in this order, each step of which leaves the host as it was or a state
 * that the next run continues from:
 *
 *   targets   which cgroups get which programs; all bad paths are found before anything changes
 *   pins      the directory, locked; what it holds must be ours and of our ABI version
 *   maps      pinned ones are taken over with all that is in them, missing ones made
 *   programs  verified by the kernel, pinned
 *   policy    written
 *   links     existing ones get the new program in one step, missing ones are attached, connect
 *             last; then those that are wanted no more are detached
 *
 * What this run made is removed again, newest first, if a later step fails.
 */
#include "load.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access.h"
#include "bpffs.h"
#include "cgroup.h"
#include "hooks.h"
#include "log.h"
#include "monotonic.h"
#include "namespaces.h"
#include "options.h"
#include "pins.h"
#include "tproxy.skel.h"
#include "tproxy_abi.h"
#include "unload.h"
#include "util.h"

struct load {
	const struct options *options;
	struct cgroup *scopes;
	size_t n_scopes;
	struct cgroup relay; /* fd -1: none given */
	struct pins pins;
	struct tproxy_bpf *skel;
	bool opened_bpffs;	     /* by this run */
	char (*made)[PINS_LINK_LEN]; /* pins of this run, oldest first */
	size_t n_made;
	size_t n_kept; /* links that are wanted no more, but still needed */
};

/* Attaching is what needs privilege; find out before, to say it in one line. */
static int need_privilege(void)
{
	if (geteuid() == 0 && namespaces_is_initial(NAMESPACES_USER))
		return 0;
	log_err("must be run by root%s: it loads BPF programs and attaches them to cgroups",
		geteuid() == 0 ? " of the host, outside of user namespaces" : "");
	return -EPERM;
}

static int open_target(const char *option, const char *path, struct cgroup *ret_cgroup)
{
	int r = cgroup_open(path, ret_cgroup);
	_cleanup_free_ char *root = NULL;

	if (r == -EMEDIUMTYPE && cgroup_root(&root) == 0)
		log_err("%s '%s' is a directory, but not of the cgroup2 file system, which is at '%s'",
			option, path, root);
	else if (r == -ENOENT && cgroup_root(&root) == 0)
		log_err("%s '%s': %s; paths begin at '%s'", option, path, strerror(-r), root);
	else if (r < 0)
		log_err("%s '%s'%s %s", option, path, r == -EXDEV ? "" : ":", cgroup_strerror(r));
	return r;
}

/*
 * A cgroup below another one in the list is covered by it: attached to both, the programs would run
 * twice for each connection.
 */
static void drop_covered(struct load *l)
{
	size_t i, j, kept = 0;

	for (i = 0; i < l->n_scopes; i++) {
		for (j = 0; j < l->n_scopes; j++) {
			bool same = l->scopes[i].id == l->scopes[j].id;

			if (i == j || l->scopes[j].fd < 0)
				continue;
			if (same ? j < i : cgroup_is_within(&l->scopes[i], &l->scopes[j]))
				break;
		}
		if (j == l->n_scopes)
			continue;
		log_info("--cgroup '%s' is covered by '%s'", l->scopes[i].path, l->scopes[j].path);
		cgroup_close(&l->scopes[i]);
	}
	for (i = 0; i < l->n_scopes; i++) {
		if (l->scopes[i].fd >= 0)
			l->scopes[kept++] = l->scopes[i];
	}
	l->n_scopes = kept;
}

static int open_targets(struct load *l)
{
	const struct options *o = l->options;
	_cleanup_free_ char *root = NULL;
	size_t i;
	int r;

	r = cgroup_root(&root);
	if (r < 0) {
		log_err("no cgroup2 file system is mounted; mount one with 'mount -t cgroup2 cgroup2 DIR' (%s)",
			strerror(-r));
		return r;
	}
	l->scopes = calloc(o->n_cgroups + 1, sizeof(*l->scopes));
	if (!l->scopes) {
		log_err("out of memory");
		return -ENOMEM;
	}
	for (i = 0; i < o->n_cgroups || i == 0; i++) {
		r = open_target("--cgroup", o->n_cgroups ? o->cgroups[i] : root,
				&l->scopes[l->n_scopes]);
		if (r < 0)
			return r;
		l->n_scopes++;
	}
	drop_covered(l);
	if (!o->relay_cgroup)
		return 0;
	r = open_target("--relay-cgroup", o->relay_cgroup, &l->relay);
	if (r < 0)
		return r;
	for (i = 0; i < l->n_scopes; i++) {
		if (!cgroup_is_within(&l->scopes[i], &l->relay))
			continue;
		log_err("--cgroup '%s' is in --relay-cgroup '%s', where nothing is redirected",
			l->scopes[i].path, l->relay.path);
		return -EINVAL;
	}
	return 0;
}

static int refuse_foreign(struct pins *pins, const char *name, void *data)
{
	if (pins_is_ours(name))
		return 0;
	log_err("pin directory '%s' holds '%s', which is not tproxy-load's; choose another --pin-dir",
		pins->path, name);
	return -EEXIST;
}

/* What is loaded there must be something that we can take over. */
static int check_pinned(struct load *l)
{
	uint32_t version;
	int r;

	r = pins_for_each(&l->pins, refuse_foreign, NULL);
	if (r < 0)
		return r;
	r = bpffs_abi_version(l->pins.path, &version);
	/* 0: a loader died between making the map and writing the policy. */
	if (r == -ENOENT || (r == 0 && (version == TPROXY_ABI_VERSION || version == 0)))
		return 0;
	if (r < 0)
		log_err("'%s/map_policy' cannot be read: %s; run 'tproxy-load --unload -p %s' first",
			l->pins.path, strerror(-r), l->pins.path);
	else
		log_err("'%s' holds ABI version %u, this is version %u; run 'tproxy-load --unload -p %s' first",
			l->pins.path, version, TPROXY_ABI_VERSION, l->pins.path);
	return r < 0 ? r : -EPROTO;
}

/* Remembers that this run made a pin. Room for all was allocated. */
static void note_made(struct load *l, const char *name)
{
	snprintf(l->made[l->n_made++], PINS_LINK_LEN, "%s", name);
}

static int load_object(struct load *l)
{
	struct bpf_map *map;
	char path[PATH_MAX];
	int r;

	/* Pins: one per map and program, and one per hook for each scope and the relay's cgroup. */
	l->made = calloc(n_map_access + n_hooks * (l->n_scopes + 2), sizeof(*l->made));
	l->skel = tproxy_bpf__open();
	if (!l->made || !l->skel) {
		log_err("cannot open the BPF object: %s", strerror(errno));
		return -ENOMEM;
	}
	bpf_object__for_each_map(map, l->skel->obj)
	{
		r = pins_path(&l->pins, bpf_map__name(map), path);
		if (r < 0)
			return r;
		r = bpf_map__set_pin_path(map, path);
		if (r < 0) {
			log_err("cannot set the pin of %s: %s", bpf_map__name(map), strerror(-r));
			return r;
		}
		/* libbpf pins while it loads, and unpins if that fails. */
		if (!pins_exists(&l->pins, bpf_map__name(map)))
			note_made(l, bpf_map__name(map));
	}
	r = tproxy_bpf__load(l->skel);
	if (r < 0)
		log_err("the kernel did not take the BPF programs: %s%s", strerror(-r),
			l->options->verbose ? "" : "; -v shows what libbpf and the verifier say");
	return r;
}

static int policy_read(struct load *l, struct tproxy_policy *ret_policy)
{
	const __u32 key = 0;

	return bpf_map__lookup_elem(l->skel->maps.map_policy, &key, sizeof(key), ret_policy,
				    sizeof(*ret_policy), 0);
}

static int policy_write(struct load *l, const struct tproxy_policy *policy)
{
	const __u32 key = 0;

	return bpf_map__update_elem(l->skel->maps.map_policy, &key, sizeof(key), policy,
				    sizeof(*policy), BPF_ANY);
}

/* It is written down first, so that --unload undoes it also if we die in between. */
static int open_bpffs(struct load *l)
{
	struct tproxy_policy policy;
	int r;

	if (!l->options->relay_gid || !pins_bpffs_is_closed(&l->pins))
		return 0;
	r = policy_read(l, &policy);
	if (r == 0) {
		policy.opened_bpffs = 1;
		r = policy_write(l, &policy);
	}
	if (r < 0) {
		log_err("cannot write the policy: %s", strerror(-r));
		return r;
	}
	l->opened_bpffs = true;
	return pins_open_bpffs(&l->pins);
}

static int set_map_access(struct load *l)
{
	size_t i;
	int r;

	for (i = 0; i < n_map_access; i++) {
		r = pins_set_access(&l->pins, map_access[i].name, l->options->relay_gid,
				    map_access[i].mode);
		if (r < 0)
			return r;
	}
	r = open_bpffs(l);
	if (r < 0)
		return r;
	return pins_open_to_group(&l->pins, l->options->relay_gid);
}

static int write_policy(struct load *l)
{
	struct tproxy_policy before, policy = {
		.abi_version = TPROXY_ABI_VERSION,
		.flags = (l->options->fail_closed ? TPROXY_FAIL_CLOSED : 0) |
			 (l->options->include_loopback ? TPROXY_INCLUDE_LOOPBACK : 0),
		.relay_cgroup_id = l->relay.id,
		.relay_cgroup_level = l->relay.level,
	};
	int r;

	r = policy_read(l, &before);
	if (r == 0) {
		policy.opened_bpffs = before.opened_bpffs;
		/* The counters go on when it is loaded again. */
		policy.loaded_ns = before.loaded_ns ? before.loaded_ns : monotonic_kernel_ns();
		r = policy_write(l, &policy);
	}
	if (r < 0)
		log_err("cannot write the policy: %s", strerror(-r));
	return r;
}

static struct bpf_program *program_of(struct load *l, const struct hook *hook)
{
	char name[PINS_LINK_LEN];

	snprintf(name, sizeof(name), "tproxy_%s", hook->name);
	return bpf_object__find_program_by_name(l->skel->obj, name);
}

/* Pins under a second name and renames, so that the pin is there at every moment. */
static int pin_program(struct load *l, const struct hook *hook)
{
	char name[PINS_LINK_LEN], staged[PINS_LINK_LEN], path[PATH_MAX];
	bool existed;
	int r;

	snprintf(name, sizeof(name), "prog_%s", hook->name);
	snprintf(staged, sizeof(staged), "prog_%s_new", hook->name);
	existed = pins_exists(&l->pins, name);
	r = pins_remove(&l->pins, staged);
	if (r < 0)
		return r;
	r = pins_path(&l->pins, staged, path);
	if (r < 0)
		return r;
	r = bpf_program__pin(program_of(l, hook), path);
	if (r == 0 && renameat(l->pins.fd, staged, l->pins.fd, name) < 0)
		r = -errno;
	if (r < 0) {
		log_err("cannot pin '%s/%s': %s", l->pins.path, name, strerror(-r));
		pins_remove(&l->pins, staged);
		return r;
	}
	if (!existed)
		note_made(l, name);
	return pins_set_access(&l->pins, name, 0, 0600);
}

/*
 * Puts the new program into a pinned link. 0: done; 1: the link is dead, because its cgroup was
 * removed, and so is its pin now.
 */
static int update_link(struct load *l, const char *name, const char *path, int prog_fd)
{
	_cleanup_close_ int fd = bpf_obj_get(path);
	int r = fd < 0 ? fd : bpf_link_update(fd, prog_fd, NULL);

	if (r == 0) {
		log_debug("updated '%s'", name);
		return 0;
	}
	if (r != -ENOLINK) {
		log_err("cannot update '%s': %s", path, strerror(-r));
		return r;
	}
	r = pins_remove(&l->pins, name);
	return r < 0 ? r : 1;
}

static int attach(struct load *l, const struct hook *hook, const struct cgroup *cgroup)
{
	struct bpf_program *prog = program_of(l, hook);
	struct bpf_link *link;
	char name[PINS_LINK_LEN], path[PATH_MAX];
	int r;

	pins_format_link(hook->name, cgroup->id, name);
	r = pins_path(&l->pins, name, path);
	if (r < 0)
		return r;
	if (pins_exists(&l->pins, name)) {
		r = update_link(l, name, path, bpf_program__fd(prog));
		if (r <= 0)
			return r;
	}
	link = bpf_program__attach_cgroup(prog, cgroup->fd);
	if (!link) {
		r = -errno;
		log_err("cannot attach %s to '%s': %s", hook->name, cgroup->path, strerror(-r));
		return r;
	}
	r = bpf_link__pin(link, path);
	if (r < 0) {
		log_err("cannot pin '%s': %s", path, strerror(-r));
	} else {
		note_made(l, name);
		log_debug("attached %s to '%s'", hook->name, cgroup->path);
	}
	bpf_link__destroy(link); /* closes it; what is pinned stays attached */
	return r < 0 ? r : pins_set_access(&l->pins, name, 0, 0600);
}

static bool covers_relay(const struct load *l)
{
	size_t i;

	for (i = 0; i < l->n_scopes; i++) {
		if (cgroup_is_within(&l->relay, &l->scopes[i]))
			return true;
	}
	return false;
}

/* Without --relay-cgroup relays live where clients do. */
static bool wants_scopes(const struct load *l, const struct hook *hook)
{
	return hook->scope || l->relay.fd < 0;
}

static bool wants_relay(const struct load *l, const struct hook *hook)
{
	return hook->relay && l->relay.fd >= 0 && !(hook->scope && covers_relay(l));
}

static int attach_all(struct load *l)
{
	size_t i, j;
	int r;

	for (i = 0; i < n_hooks; i++) {
		if (wants_relay(l, &hooks[i])) {
			r = attach(l, &hooks[i], &l->relay);
			if (r < 0)
				return r;
		}
		for (j = 0; wants_scopes(l, &hooks[i]) && j < l->n_scopes; j++) {
			r = attach(l, &hooks[i], &l->scopes[j]);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static bool has_connections(const struct load *l)
{
	__u64 cookie;

	return bpf_map__get_next_key(l->skel->maps.map_socks, NULL, &cookie, sizeof(cookie)) == 0;
}

/*
 * A link of an earlier load that this one does not want. connect's goes now; the others also serve
 * and clean up after connections that it has redirected, so they stay while there are any.
 */
static int detach_if_stale(struct pins *pins, const char *name, void *data)
{
	struct load *l = data;
	const struct hook *hook;
	char hook_name[PINS_LINK_LEN];
	uint64_t id;
	size_t i;

	if (pins_parse_link(name, hook_name, &id) < 0)
		return 0;
	hook = hook_by_name(hook_name);
	if (hook && wants_relay(l, hook) && id == l->relay.id)
		return 0;
	for (i = 0; hook && wants_scopes(l, hook) && i < l->n_scopes; i++) {
		if (id == l->scopes[i].id)
			return 0;
	}
	if (hook && strncmp(hook->name, "connect", 7) != 0 && has_connections(l)) {
		l->n_kept++;
		return 0;
	}
	log_debug("'%s' is wanted no more", name);
	return unload_link(pins, name);
}

/*
 * Relays that were killed could not take their entries back, and those of network namespaces that
 * are gone too are in nobody's way but that of the map's size.
 */
static void forget_dead_relays(struct load *l)
{
	struct bpf_map *map = l->skel->maps.map_config;
	struct tproxy_relay relay;
	__u64 cookie, *prev = NULL;
	int n;

	/* PIDs are those of the initial namespace: in another one they are other processes. */
	if (!namespaces_is_initial(NAMESPACES_PID))
		return;
	for (n = 0; n < TPROXY_NAMESPACES_MAX &&
		    bpf_map__get_next_key(map, prev, &cookie, sizeof(cookie)) == 0;
	     n++) {
		if (bpf_map__lookup_elem(map, &cookie, sizeof(cookie), &relay, sizeof(relay), 0) ==
			    0 &&
		    kill((pid_t)relay.pid, 0) < 0 && errno == ESRCH) {
			log_info("relay %u is gone, forgot its registration", relay.pid);
			bpf_map__delete_elem(map, &cookie, sizeof(cookie), 0);
			prev = NULL; /* the walk cannot go on from a key that is not there */
			continue;
		}
		prev = &cookie;
	}
}

/* Each step says what went wrong. */
static int load_steps(struct load *l)
{
	size_t i;
	int r;

	r = load_object(l);
	if (r < 0)
		return r;
	r = set_map_access(l);
	if (r < 0)
		return r;
	for (i = 0; i < n_hooks; i++) {
		r = pin_program(l, &hooks[i]);
		if (r < 0)
			return r;
	}
	r = write_policy(l);
	if (r < 0)
		return r;
	forget_dead_relays(l);
	r = attach_all(l);
	if (r < 0)
		return r;
	/* After attaching, so that what was in scope and still is, is in scope at every moment. */
	return pins_for_each(&l->pins, detach_if_stale, l);
}

static void undo(struct load *l)
{
	if (l->opened_bpffs)
		pins_close_bpffs(&l->pins);
	while (l->n_made > 0) {
		const char *name = l->made[--l->n_made];

		if (strncmp(name, "link_", 5) == 0)
			unload_link(&l->pins, name);
		else
			pins_remove(&l->pins, name);
	}
	if (l->pins.created)
		pins_remove_dir(&l->pins);
}

static void load_finish(struct load *l)
{
	size_t i;

	tproxy_bpf__destroy(l->skel);
	for (i = 0; i < l->n_scopes; i++)
		cgroup_close(&l->scopes[i]);
	cgroup_close(&l->relay);
	pins_close(&l->pins);
	free(l->scopes);
	free(l->made);
}

int load(const struct options *options)
{
	_cleanup_(load_finish) struct load l = {
		.options = options,
		.relay = CGROUP_NULL,
		.pins = PINS_NULL,
	};
	int r;

	r = need_privilege();
	if (r < 0)
		return r;
	r = open_targets(&l);
	if (r < 0)
		return r;
	r = pins_open(options->pin_dir, /* create= */ true, &l.pins);
	if (r < 0)
		return r;
	r = check_pinned(&l);
	if (r == 0)
		r = load_steps(&l);
	if (r < 0) {
		undo(&l);
		return r;
	}
	printf("%s: %zu programs, attached to %zu cgroup%s%s, pinned in '%s'\n",
	       l.pins.created ? "loaded" : "loaded again, live state kept", n_hooks, l.n_scopes,
	       l.n_scopes == 1 ? "" : "s", options->fail_closed ? ", fail-closed" : "",
	       options->pin_dir);
	if (l.n_kept > 0)
		printf("connections of cgroups that are in scope no more still run, and keep %zu links; the next tproxy-load removes those\n",
		       l.n_kept);
	return 0;
}

int load_check(const struct options *options)
{
	_cleanup_(load_finish) struct load l = {
		.options = options,
		.relay = CGROUP_NULL,
		.pins = PINS_NULL,
	};
	int r;

	r = open_targets(&l);
	if (r < 0)
		return r;
	printf("good: would attach to %zu cgroup%s%s, pin in '%s'\n", l.n_scopes,
	       l.n_scopes == 1 ? "" : "s", options->fail_closed ? ", fail-closed" : "",
	       options->pin_dir);
	return 0;
}
