// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the load itself. Each step leaves the host as it was, or in a state from which the
 * next run continues. The order is:
 *
 *   targets   open the cgroups; every bad path is found before anything changes
 *   pins      create and lock the directory; it must hold only pins of tproxy and our ABI version
 *   maps      adopt pinned maps with their contents, create the missing ones
 *   programs  let the kernel verify them, pin them by rename
 *   policy    withdraw registrations of relays that lose their hooks, write map_policy
 *   links     update existing links in place, attach missing ones, connect last; then detach
 *             those that are no longer wanted
 *
 * If a step fails, undo() restores modes, policy and registrations of the previous load. It then
 * removes the pins that this run created, newest first. Replaced programs stay replaced. The
 * directory is locked from the second step to the end. Only this file includes the skeleton.
 */
#include "load.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access.h"
#include "again.h"
#include "bpffs.h"
#include "cgroup.h"
#include "escape.h"
#include "foreign.h"
#include "handshakes.h"
#include "hooks.h"
#include "log.h"
#include "monotonic.h"
#include "namespaces.h"
#include "options.h"
#include "owned.h"
#include "pins.h"
#include "quote.h"
#include "relays.h"
#include "report.h"
#include "search_bit.h"
#include "targets.h"
#include "tproxy.skel.h"
#include "tproxy_abi.h"
#include "unload.h"
#include "util.h"

#define BTF_PATH "/sys/kernel/btf/vmlinux"

struct load {
	const struct options *options;
	struct targets targets;
	struct pins pins;
	struct tproxy_bpf *skel;
	bool opened_bpffs;	     /* this run set the search bit on the bpffs root */
	char (*made)[PINS_LINK_LEN]; /* pins created by this run, oldest first */
	size_t n_made;
	size_t n_kept; /* no longer wanted, but still needed by connections */
	struct report_before before;
	struct tproxy_policy policy;
	struct relays outside; /* relays whose registration this run withdrew */
};

/* Attaching needs privilege. Check first, to report it in one line. */
static int need_privilege(void)
{
	if (geteuid() == 0 && namespaces_is_initial(NAMESPACES_USER))
		return 0;
	log_err("must be run by root%s: it loads BPF programs and attaches them to cgroups",
		geteuid() == 0 ? " of the host, outside of user namespaces" : "");
	return -EPERM;
}

/* The programs read fields of kernel structures, whose offsets come from the kernel's BTF. */
static int need_btf(void)
{
	int r;

	if (access(BTF_PATH, R_OK) == 0)
		return 0;
	r = -errno;
	log_err("the kernel has no BTF ('" BTF_PATH
		"': %s); boot one that was built with CONFIG_DEBUG_INFO_BTF=y",
		strerror(-r));
	return r;
}

static int refuse_foreign(struct pins *pins, const char *name, void *data)
{
	if (owned_by_tproxy(pins, name))
		return 0;
	log_err("pin directory '%s' holds '%s', which is not tproxy-load's; choose another --pin-dir",
		pins->path, name);
	return -EEXIST;
}

/* Returns 0 if this version can adopt what is pinned already, otherwise -errno, logged. */
static int check_pinned(struct load *l)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	uint32_t version;
	int r;

	r = pins_for_each(&l->pins, refuse_foreign, NULL);
	if (r < 0)
		return r;
	r = bpffs_abi_version(l->pins.path, &version);
	/* Version 0: a loader died after it had created map_policy and before it wrote it. */
	if (r == -ENOENT || (r == 0 && (version == TPROXY_ABI_VERSION || version == 0)))
		return 0;
	shell_quote(l->pins.path, quoted, sizeof(quoted));
	if (r < 0)
		log_err("'%s/map_policy' cannot be read: %s; run first: tproxy-load --unload -p %s",
			l->pins.path, strerror(-r), quoted);
	else
		log_err("'%s' holds ABI version %u, this is version %u; run first: tproxy-load --unload -p %s",
			l->pins.path, version, TPROXY_ABI_VERSION, quoted);
	return r < 0 ? r : -EPROTO;
}

/* Records that this run created a pin. load_object() has allocated room for all of them. */
static void note_made(struct load *l, const char *name)
{
	snprintf(l->made[l->n_made++], PINS_LINK_LEN, "%s", name);
}

static int load_object(struct load *l)
{
	struct bpf_map *map;
	char path[PATH_MAX];
	int r;

	/*
	 * At most one pin for each map and program, and one link of each hook for each scope and
	 * the relay cgroup.
	 */
	l->made = calloc(n_map_access + n_hooks * (l->targets.n_scopes + 2), sizeof(*l->made));
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
		/* libbpf pins maps while it loads. It unpins them if the load fails. */
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

/*
 * Sets the search bit on the bpffs root if the relay group needs it. The policy records that first,
 * so that --unload takes it back even if this run dies in between.
 */
static int open_bpffs(struct load *l)
{
	struct tproxy_policy policy;
	int r;

	if (!l->options->relay_gid || !search_bit_is_missing(&l->pins))
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
	return search_bit_set(&l->pins);
}

static int set_map_access(struct load *l, gid_t gid)
{
	size_t i;
	int r;

	for (i = 0; i < n_map_access; i++) {
		r = pins_set_access(&l->pins, map_access[i].name, gid, map_access[i].mode);
		if (r < 0)
			return r;
	}
	r = open_bpffs(l);
	if (r < 0)
		return r;
	return pins_open_to_group(&l->pins, gid);
}

static int write_policy(struct load *l)
{
	struct tproxy_policy before;
	int r;

	l->policy = (struct tproxy_policy){
		.abi_version = TPROXY_ABI_VERSION,
		.flags = (l->options->fail_closed ? TPROXY_FAIL_CLOSED : 0) |
			 (l->options->include_loopback ? TPROXY_INCLUDE_LOOPBACK : 0),
		.relay_cgroup_id = l->targets.relay.id,
		.relay_cgroup_level = l->targets.relay.level,
	};
	r = policy_read(l, &before);
	if (r == 0) {
		l->policy.opened_bpffs = before.opened_bpffs;
		l->policy.seed = before.seed;
		if (!before.seed && getrandom(&l->policy.seed, sizeof(l->policy.seed), 0) < 0)
			l->policy.seed = monotonic_kernel_ns();
		/* A reload keeps the counters, and so their start time. */
		l->policy.loaded_ns = before.loaded_ns ? before.loaded_ns : monotonic_kernel_ns();
		r = policy_write(l, &l->policy);
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

/* Pins under a temporary name and renames it, so that the pin exists at every moment. */
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
 * Replaces the program of a pinned link. Returns 0 if done, 1 if the link was dead because its
 * cgroup was removed, or -errno, logged. The pin of a dead link is removed.
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
		log_err("cannot attach %s to '%s': %s%s", hook->name, cgroup->path, strerror(-r),
			r == -EPERM
				? "; 'tproxyctl doctor --cgroup' names the program that is in the way"
				: "");
		return r;
	}
	r = bpf_link__pin(link, path);
	if (r < 0) {
		log_err("cannot pin '%s': %s", path, strerror(-r));
	} else {
		note_made(l, name);
		log_debug("attached %s to '%s'", hook->name, cgroup->path);
	}
	bpf_link__destroy(link); /* closes the fd; the pinned link stays attached */
	return r < 0 ? r : pins_set_access(&l->pins, name, 0, 0600);
}

static int attach_all(struct load *l)
{
	const struct targets *t = &l->targets;
	size_t i, j;
	int r;

	for (i = 0; i < n_hooks; i++) {
		if (targets_want_relay(t, &hooks[i])) {
			r = attach(l, &hooks[i], &t->relay);
			if (r < 0)
				return r;
		}
		for (j = 0; targets_want_scopes(t, &hooks[i]) && j < t->n_scopes; j++) {
			r = attach(l, &hooks[i], &t->scopes[j]);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static bool has_connections(const struct load *l)
{
	__u64 cookie;

	bpffs_sweep(l->pins.path);
	return bpf_map__get_next_key(l->skel->maps.map_socks, NULL, &cookie, sizeof(cookie)) == 0;
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

/*
 * Returns true if the kernel has detached the link (cgroup id 0): its cgroup was removed, and no
 * socket of that cgroup is left.
 */
static bool is_dead_link(const struct pins *pins, const char *name)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];

	if (pins_path(pins, name, path) < 0)
		return false;
	fd = bpf_obj_get(path);
	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
	       info.cgroup.cgroup_id == 0;
}

/*
 * A callback of pins_for_each(): detaches a link of an earlier load that this load does not want. A
 * link of connect is detached at once. The others also serve and clean up after connections that
 * are redirected already, so they stay as long as there are any.
 */
static int detach_if_stale(struct pins *pins, const char *name, void *data)
{
	struct load *l = data;
	const struct hook *hook;
	char hook_name[PINS_LINK_LEN];
	uint64_t id;

	if (pins_parse_link(name, hook_name, &id) < 0)
		return 0;
	hook = hook_by_name(hook_name);
	if (hook && is_wanted(&l->targets, hook, id))
		return 0;
	if (hook && strncmp(hook->name, "connect", 7) != 0 && has_connections(l) &&
	    !is_dead_link(pins, name)) {
		l->n_kept++;
		return 0;
	}
	log_debug("'%s' is wanted no more", name);
	return unload_link(pins, name);
}

/* Reads the state before this load, for the report and for undo(). */
static void read_before(struct load *l)
{
	struct report_before *before = &l->before;
	struct stat st;

	before->loaded = policy_read(l, &before->policy) == 0 &&
			 before->policy.abi_version == TPROXY_ABI_VERSION;
	if (!before->loaded)
		return;
	before->relay_gid = fstat(l->pins.fd, &st) == 0 ? st.st_gid : l->options->relay_gid;
	if (targets_read(bpf_map__fd(l->skel->maps.map_targets), &before->list, &before->n) < 0 ||
	    before->n > 0)
		return;
	free(before->list);
	before->list = NULL;
}

/*
 * Withdraws registrations of relays that will be unable to learn a destination. Connections on
 * their way to such a relay get time to be accepted and asked for, while the programs are still
 * attached at its cgroup.
 */
static void withdraw_outside(struct load *l)
{
	if (relays_take_outside(bpf_map__fd(l->skel->maps.map_config), &l->targets,
				report_moved(&l->before, &l->targets), l->options->relay_gid,
				&l->outside) > 0)
		handshakes_let_end(l->outside.taken, l->outside.n_taken);
}

/* The last steps. undo() does not attach again what they detach. */
static int finish_steps(struct load *l)
{
	int r;

	/* Detach last: a cgroup that stays in scope must be covered at every moment. */
	r = pins_for_each(&l->pins, detach_if_stale, l);
	if (r < 0)
		return r;
	/* Again, for a relay that registered once more while its programs were still attached. */
	relays_take_outside(bpf_map__fd(l->skel->maps.map_config), &l->targets,
			    report_moved(&l->before, &l->targets), l->options->relay_gid,
			    &l->outside);
	r = targets_write(bpf_map__fd(l->skel->maps.map_targets), &l->targets);
	if (r < 0)
		log_err("cannot write down the cgroups in '%s/map_targets': %s", l->pins.path,
			strerror(-r));
	return r;
}

/* Runs the steps from need_btf() on. Each step logs its own error. */
static int load_steps(struct load *l)
{
	size_t i;
	int r;

	r = need_btf();
	if (r < 0)
		return r;
	r = load_object(l);
	if (r < 0)
		return r;
	read_before(l);
	r = set_map_access(l, l->options->relay_gid);
	if (r < 0)
		return r;
	for (i = 0; i < n_hooks; i++) {
		r = pin_program(l, &hooks[i]);
		if (r < 0)
			return r;
	}
	/*
	 * Before the policy is written: it may end the exemption of a relay, which does not notice
	 * at once.
	 */
	relays_forget_dead(bpf_map__fd(l->skel->maps.map_config));
	withdraw_outside(l);
	r = write_policy(l);
	if (r < 0)
		return r;
	r = attach_all(l);
	if (r < 0)
		return r;
	return finish_steps(l);
}

static void undo(struct load *l)
{
	if (l->before.loaded) {
		set_map_access(l, l->before.relay_gid);
		policy_write(l, &l->before.policy);
		relays_restore(bpf_map__fd(l->skel->maps.map_config), &l->outside);
	}
	if (l->opened_bpffs)
		search_bit_clear(&l->pins);
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
	tproxy_bpf__destroy(l->skel);
	targets_close(&l->targets);
	pins_close(&l->pins);
	relays_finish(&l->outside);
	free(l->before.list);
	free(l->made);
}

static int load_with(const struct options *options)
{
	_cleanup_(load_finish) struct load l = {
		.options = options,
		.targets = TARGETS_NULL,
		.pins = PINS_NULL,
	};
	int r;

	r = targets_open(options, &l.targets);
	if (r < 0)
		return r;
	r = pins_open(options->pin_dir, /* create= */ true, &l.pins);
	if (r < 0)
		return r;
	r = check_pinned(&l);
	if (r == 0)
		r = foreign_check(&l.pins, &l.targets, options->force);
	if (r == 0)
		r = load_steps(&l);
	if (r < 0) {
		undo(&l);
		return r;
	}
	report_load(&l.before, &l.targets, &l.policy, options,
		    relays_count(bpf_map__fd(l.skel->maps.map_config)), &l.outside);
	if (l.n_kept > 0)
		printf("connections of cgroups that are in scope no more still run, and keep %zu links; a tproxy-load removes those once no redirected connection is left\n",
		       l.n_kept);
	return 0;
}

int load(const struct options *options)
{
	struct options before;
	int r;

	r = need_privilege();
	if (r < 0 || !options->again)
		return r < 0 ? r : load_with(options);
	r = again_options(options, &before);
	if (r < 0)
		return r;
	r = load_with(&before);
	options_finish(&before);
	return r;
}

int load_check(const struct options *options)
{
	_cleanup_(load_finish) struct load l = {
		.options = options,
		.targets = TARGETS_NULL,
		.pins = PINS_NULL,
	};
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)], shown[ESCAPE_LEN(PATH_MAX)];
	int r;

	r = targets_open(options, &l.targets);
	if (r == 0)
		r = pins_check(options->pin_dir);
	if (r < 0)
		return r;
	report_check(&l.targets, options->fail_closed, options->pin_dir);
	if (options->config_has_others)
		printf("of '%s' the section [load] was checked; [relay] is for: tproxy-relay --check --config %s\n",
		       escape_text(options->config, strlen(options->config), shown, sizeof(shown)),
		       shell_quote(options->config, quoted, sizeof(quoted)));
	return 0;
}
