// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the load itself. Each step leaves the host as it was, or in a state from which the
 * next run continues. The order is:
 *
 *   targets   open the cgroups; every bad path is found before anything changes
 *   pins      create and lock the directory; it must hold only pins of tproxy and our ABI version
 *   maps      adopt pinned maps with their contents, create the missing ones; the same for rings
 *   programs  let the kernel verify them, pin them by rename
 *   policy    withdraw registrations of relays that lose their hooks, write map_policy
 *   rules     put the rules of --rules into force
 *   xdp       attach to the interfaces of --xdp, or update the links there
 *   links     update existing links in place, attach missing ones, connect last; then detach
 *             those that are no longer wanted
 *
 * If a step fails, undo() restores targets, modes, policy, rules and registrations of the previous
 * load. It then removes the pins that this run created, newest first. Replaced programs stay
 * replaced. Once all links are attached, nothing is undone: a link that cannot be detached stays
 * until the next run. The directory is locked from the second step to the end.
 *
 * The work of the last steps is in programs.c, withdraw.c, policy_renew.c, rules_step.c, xdp.c and
 * links.c. Of these files only this one includes the skeleton; the others get the BPF object or the
 * descriptor of a map.
 */
#include "load.h"

#include <bpf/libbpf.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "again.h"
#include "bpffs.h"
#include "created.h"
#include "escape.h"
#include "foreign_check.h"
#include "handshakes.h"
#include "host/namespaces.h"
#include "links.h"
#include "list.h"
#include "log.h"
#include "objects.h"
#include "options.h"
#include "policy_renew.h"
#include "programs.h"
#include "quote.h"
#include "report.h"
#include "rings.h"
#include "rules_step.h"
#include "search_bit.h"
#include "state/on_demand.h"
#include "state/owned.h"
#include "state/pinned_link.h"
#include "state/pins.h"
#include "state/policy.h"
#include "state/relays.h"
#include "state/target_list.h"
#include "state/traffic.h"
#include "state/xdp_link.h"
#include "targets.h"
#include "tproxy.skel.h"
#include "tproxy_abi.h"
#include "util.h"
#include "withdraw.h"
#include "xdp.h"

#define BTF_PATH "/sys/kernel/btf/vmlinux"

struct load {
	const struct load_options *options;
	struct targets targets;
	struct pins pins;
	struct tproxy_bpf *skel;
	bool opened_bpffs;	/* this run set the search bit on the bpffs root */
	struct created created; /* pins created by this run */
	size_t n_kept;		/* no longer wanted, but still needed by connections */
	bool complete;		/* all that was asked for is in force: undo nothing */
	struct report_before before;
	struct tproxy_policy policy;
	struct withdrawn outside; /* relays whose registration this run withdrew */
	struct rules_step rules;
	struct xdp_step xdp;
};

/* Attaching needs privilege. Check first, to report it in one line. */
static int need_privilege(void)
{
	if (geteuid() == 0 && namespaces_is_initial(NAMESPACES_USER))
		return 0;
	log_err("must be run by root%s, because it loads BPF programs and attaches them to cgroups",
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
		"': %s); boot a kernel built with CONFIG_DEBUG_INFO_BTF=y",
		strerror(-r));
	return r;
}

static int refuse_foreign(struct pins *pins, const char *name, void *data)
{
	int r = owned_by_tproxy(pins, name);

	if (r > 0)
		return 0;
	if (r < 0) {
		log_err("cannot examine '%s/%s': %s", pins->path, name, strerror(-r));
		return r;
	}
	log_err("pin directory '%s' holds '%s', which tproxy-load did not create; choose another --pin-dir",
		pins->path, name);
	return -EEXIST;
}

/* Returns 0 if this version can adopt what is pinned already, otherwise -errno, logged. */
static int check_pinned(struct pins *pins)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	uint32_t version;
	int r;

	r = pins_for_each(pins, refuse_foreign, NULL);
	if (r < 0)
		return r;
	r = bpffs_abi_version(pins->path, &version);
	/* Version 0: a loader died after it had created map_policy and before it wrote it. */
	if (r == -ENOENT || (r == 0 && (version == TPROXY_ABI_VERSION || version == 0)))
		return 0;
	shell_quote(pins->path, quoted, sizeof(quoted));
	if (r < 0)
		log_err("cannot read '%s/map_policy': %s; first run: tproxy-load --unload -p %s",
			pins->path, strerror(-r), quoted);
	else
		log_err("'%s' holds ABI version %u, this is version %u; first run: tproxy-load --unload -p %s",
			pins->path, version, TPROXY_ABI_VERSION, quoted);
	return r < 0 ? r : -EPROTO;
}

/* Opens the object and sets the pins of its maps. Returns 0 or -errno, logged. */
static int open_object(struct load *l)
{
	struct bpf_map *map;
	char path[PATH_MAX];
	int r;

	l->skel = tproxy_bpf__open();
	if (!l->skel) {
		r = -errno;
		log_err("cannot open the BPF object: %s", strerror(-r));
		return r;
	}
	bpf_object__for_each_map(map, l->skel->obj)
	{
		if (bpf_map__is_internal(map))
			continue; /* constants of the programs */
		r = pins_path(&l->pins, bpf_map__name(map), path);
		if (r < 0)
			return r;
		r = bpf_map__set_pin_path(map, path);
		if (r < 0) {
			log_err("cannot set the pin of %s: %s", bpf_map__name(map), strerror(-r));
			return r;
		}
	}
	return 0;
}

/* libbpf pins maps while it loads. It unpins them if the load fails. */
static void note_missing_maps(struct load *l)
{
	size_t i;

	for (i = 0; i < _PINNED_MAP_MAX; i++) {
		if (!pins_exists(&l->pins, pinned_maps[i].name))
			created_add(&l->created, pinned_maps[i].name);
	}
}

/*
 * The list of connections is not worth a failure: if the kernel refuses the programs, they are
 * loaded without it.
 */
static int load_without_list(struct load *l, int error)
{
	int r;

	tproxy_bpf__destroy(l->skel);
	r = open_object(l);
	if (r < 0)
		return r;
	list_leave_out(l->skel->obj);
	if (tproxy_bpf__load(l->skel) < 0)
		return error;
	log_warning(
		"the kernel rejected the list of connections: %s; 'tproxyctl connections' will lack state and bytes",
		strerror(-error));
	return 0;
}

static int load_object(struct load *l)
{
	int r;

	/*
	 * At most one pin for each map, ring and program, one for the list, one link of each hook
	 * for each scope and the relay cgroup, and one link for each interface.
	 */
	r = created_init(&l->created, _PINNED_MAP_MAX + TPROXY_RINGS_MAX + 1 +
					      _HOOK_MAX * (l->targets.n_scopes + 2) + l->xdp.n);
	if (r < 0) {
		log_err("out of memory");
		return r;
	}
	r = open_object(l);
	if (r < 0)
		return r;
	note_missing_maps(l);
	r = tproxy_bpf__load(l->skel);
	if (r < 0)
		r = load_without_list(l, r);
	if (r < 0)
		programs_log_rejected(
			r, l->options->verbose
				   ? ""
				   : "; -v shows the messages of libbpf and the verifier");
	return r;
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
	r = policy_read(bpf_map__fd(l->skel->maps.map_policy), &policy);
	if (r == 0) {
		policy.opened_bpffs = 1;
		r = policy_write(bpf_map__fd(l->skel->maps.map_policy), &policy);
	}
	if (r < 0) {
		log_err("cannot write the policy: %s", strerror(-r));
		return r;
	}
	l->opened_bpffs = true;
	return search_bit_set(&l->pins);
}

static int set_access(struct load *l, gid_t gid)
{
	size_t i;
	int r;

	for (i = 0; i < _PINNED_MAP_MAX; i++) {
		r = pins_set_access(&l->pins, pinned_maps[i].name, gid, pinned_maps[i].mode);
		if (r < 0)
			return r;
	}
	r = rings_set_access(&l->pins, gid);
	if (r == 0)
		r = programs_set_access(&l->pins, gid);
	if (r == 0)
		r = list_set_access(&l->pins, gid);
	if (r < 0)
		return r;
	r = open_bpffs(l);
	if (r < 0)
		return r;
	return pins_open_to_group(&l->pins, gid);
}

/* Reads the state before this load, for the report and for undo(). */
static void read_before(struct load *l)
{
	struct report_before *before = &l->before;
	struct stat st;

	before->loaded = policy_read(bpf_map__fd(l->skel->maps.map_policy), &before->policy) == 0 &&
			 before->policy.abi_version == TPROXY_ABI_VERSION;
	if (!before->loaded)
		return;
	before->relay_gid = fstat(l->pins.fd, &st) == 0 ? st.st_gid : l->options->relay_gid;
	xdp_step_read_before(bpf_map__fd(l->skel->maps.map_targets), &l->xdp);
	if (target_list_read(bpf_map__fd(l->skel->maps.map_targets), &before->list, &before->n) <
		    0 ||
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
static void withdraw_and_wait(struct load *l)
{
	if (withdraw_outside(bpf_map__fd(l->skel->maps.map_config), &l->targets,
			     report_moved(&l->before, &l->targets), l->options->relay_gid,
			     &l->outside) > 0)
		handshakes_let_end(l->outside.list, l->outside.n, /* socks_fd= */ -1);
}

/* The last steps. undo() does not attach again what they detach. */
static int finish_steps(struct load *l)
{
	int r, xdp;

	r = targets_write(bpf_map__fd(l->skel->maps.map_targets), &l->targets, l->xdp.list,
			  l->xdp.n);
	if (r < 0) {
		log_err("cannot write the cgroups to '%s/map_targets': %s", l->pins.path,
			strerror(-r));
		return r;
	}
	r = traffic_set(&l->pins, l->options->traffic ? TRAFFIC_STAYS : TRAFFIC_OFF);
	if (r < 0)
		return r;
	/*
	 * Detach last: a cgroup that stays in scope must be covered at every moment. Once some old
	 * links are gone, undoing the new ones could leave such a cgroup uncovered.
	 */
	l->complete = true;
	rules_step_settle(&l->rules);
	r = links_detach_stale(&l->pins, &l->targets, bpf_map__fd(l->skel->maps.map_socks),
			       &l->n_kept);
	xdp = xdp_step_detach(&l->pins, &l->xdp);
	r = r < 0 ? r : xdp;
	/* Again, for a relay that registered once more while its programs were still attached. */
	withdraw_outside(bpf_map__fd(l->skel->maps.map_config), &l->targets,
			 report_moved(&l->before, &l->targets), l->options->relay_gid, &l->outside);
	if (r < 0)
		log_err("loaded as asked, but links of the previous load remain attached; run the same command again");
	return r;
}

static void set_need(struct targets *targets, enum hook_need need, bool exists)
{
	targets->needs &= ~ON_DEMAND_BIT(need);
	if (exists)
		targets->needs |= ON_DEMAND_BIT(need);
}

/* The kernel refuses to write to a frozen map before it looks at the key, which is out of bounds.
 */
static bool pending_is_frozen(int fd)
{
	const __u32 key = TPROXY_PENDING_MAX;
	const struct tproxy_pending none = {};

	return bpf_map_update_elem(fd, &key, &none, BPF_ANY) == -EPERM;
}

/*
 * From here on only programs change map_pending, not even root: no member of the group can pretend
 * that a client is connected. It has mode 0660 all the same, because the kernel maps no BPF map of
 * a descriptor that is only for reading.
 */
static int freeze_pending(const struct load *l)
{
	const int fd = bpf_map__fd(l->skel->maps.map_pending);
	int r = bpf_map_freeze(fd);

	/* Adopted, and frozen already: -EPERM, or -EBUSY as of Linux 6.1. */
	if (r == 0 || r == -EPERM || (r == -EBUSY && pending_is_frozen(fd)))
		return 0;
	log_err("cannot freeze map_pending: %s", strerror(-r));
	return r;
}

/* Runs the steps from need_btf() on. Each step logs its own error. */
static int load_steps(struct load *l)
{
	int r;

	r = need_btf();
	if (r < 0)
		return r;
	r = load_object(l);
	if (r < 0)
		return r;
	read_before(l);
	r = rings_make(&l->pins, bpf_map__fd(l->skel->maps.map_rings), &l->created);
	if (r == 0)
		r = freeze_pending(l);
	if (r == 0)
		r = set_access(l, l->options->relay_gid);
	if (r < 0)
		return r;
	r = programs_pin(l->skel->obj, &l->pins, l->options->relay_gid, &l->created);
	if (r == 0)
		r = list_pin(l->skel->obj, &l->pins, l->options->relay_gid, &l->created);
	if (r < 0)
		return r;
	/*
	 * Before the policy is written: it may end the exemption of a relay, which does not notice
	 * at once.
	 */
	withdraw_dead(bpf_map__fd(l->skel->maps.map_config));
	withdraw_and_wait(l);
	r = policy_renew(bpf_map__fd(l->skel->maps.map_policy), l->options, &l->targets,
			 &l->policy);
	if (r < 0)
		return r;
	r = rules_step_run(l->skel->obj, &l->pins, &l->rules);
	if (r < 0)
		return r;
	set_need(&l->targets, HOOK_NEED_UDP, l->rules.store.now->needs & TPROXY_NEEDS_UDP);
	r = xdp_step_attach(l->skel->obj, &l->pins, &l->xdp, &l->created);
	if (r < 0)
		return r;
	r = links_attach(l->skel->obj, &l->targets, &l->pins, &l->created);
	if (r < 0)
		return r;
	return finish_steps(l);
}

/* --follow and the hooks that are attached on demand must not serve what a refused load named. */
static void restore_targets(struct load *l)
{
	int r;

	/* Without a list the old targets could not be read. */
	if (!l->before.list)
		return;
	r = target_list_write(bpf_map__fd(l->skel->maps.map_targets), l->before.list, l->before.n,
			      l->xdp.before, l->xdp.n_before);
	if (r < 0)
		log_err("cannot restore '%s/map_targets': %s", l->pins.path, strerror(-r));
}

static void undo(struct load *l)
{
	const char *name;

	if (l->before.loaded) {
		restore_targets(l);
		rules_step_undo(&l->rules);
		set_access(l, l->before.relay_gid);
		policy_write(bpf_map__fd(l->skel->maps.map_policy), &l->before.policy);
		withdraw_restore(bpf_map__fd(l->skel->maps.map_config), &l->outside);
	}
	if (l->opened_bpffs)
		search_bit_clear(&l->pins);
	while ((name = created_take_newest(&l->created))) {
		if (strncmp(name, "link_", 5) == 0 ||
		    strncmp(name, XDP_LINK_PREFIX, strlen(XDP_LINK_PREFIX)) == 0)
			pinned_link_remove(&l->pins, name);
		else
			pins_remove(&l->pins, name);
	}
	if (l->pins.created)
		pins_remove_dir(&l->pins);
}

static void load_finish(struct load *l)
{
	rules_step_finish(&l->rules);
	xdp_step_finish(&l->xdp);
	tproxy_bpf__destroy(l->skel);
	targets_close(&l->targets);
	pins_close(&l->pins);
	withdraw_finish(&l->outside);
	free(l->before.list);
	created_finish(&l->created);
}

static int load_with(const struct load_options *options)
{
	_cleanup_(load_finish) struct load l = {
		.options = options,
		.targets = TARGETS_NULL,
		.pins = PINS_NULL,
		.rules = RULES_STEP_NULL,
	};
	_cleanup_free_ struct relays_entry *relays = NULL;
	size_t n_relays = 0;
	int r;

	r = targets_open(options, &l.targets);
	if (r == 0)
		r = rules_step_compile(options, &l.targets, &l.rules);
	if (r == 0)
		r = xdp_step_open(options, &l.xdp);
	if (r < 0)
		return r;
	r = pins_open(options->pin_dir, /* create= */ true, &l.pins);
	if (r < 0)
		return r;
	r = check_pinned(&l.pins);
	l.targets.needs = r == 0 ? on_demand_needs(l.pins.path) : 0;
	if (options->traffic)
		set_need(&l.targets, HOOK_NEED_BLOCK, true);
	if (r == 0 && l.rules.compiled)
		set_need(&l.targets, HOOK_NEED_UDP, l.rules.compiled->has_udp);
	if (r == 0)
		r = foreign_check(&l.pins, &l.targets, options->force);
	if (r == 0)
		r = xdp_step_check(&l.pins, &l.xdp);
	if (r == 0)
		r = load_steps(&l);
	if (r < 0) {
		if (!l.complete)
			undo(&l);
		return r;
	}
	relays_read(bpf_map__fd(l.skel->maps.map_config), &relays, &n_relays);
	report_load(&l.before, &l.targets, &l.policy, options, n_relays, &l.outside);
	rules_step_report(&l.rules);
	xdp_step_report(&l.pins, &l.xdp);
	if (l.n_kept > 0)
		printf("kept %zu links of cgroups that are no longer in scope, for their running connections; a tproxy-load after these have ended removes them\n",
		       l.n_kept);
	return 0;
}

int load(const struct load_options *options)
{
	struct load_options before;
	int r;

	r = need_privilege();
	if (r < 0 || !options->again)
		return r < 0 ? r : load_with(options);
	r = again_options(options, &before);
	if (r < 0)
		return r;
	r = load_with(&before);
	load_options_finish(&before);
	return r;
}

int load_check(const struct load_options *options)
{
	_cleanup_(load_finish) struct load l = {
		.options = options,
		.targets = TARGETS_NULL,
		.pins = { .path = options->pin_dir, .fd = -1 },
		.rules = RULES_STEP_NULL,
	};
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)], shown[ESCAPE_LEN(PATH_MAX)];
	int r;

	r = targets_open(options, &l.targets);
	if (r == 0)
		r = rules_step_compile(options, &l.targets, &l.rules);
	if (r == 0)
		r = xdp_step_open(options, &l.xdp);
	if (r == 0)
		r = pins_check(options->pin_dir);
	/* Take no lock, so that a check does not wait for a loader. Only root may read the pins. */
	if (r == 0 && geteuid() == 0 && access(options->pin_dir, F_OK) == 0)
		r = check_pinned(&l.pins);
	if (r == 0 && geteuid() == 0)
		r = xdp_step_check(&l.pins, &l.xdp);
	if (r < 0)
		return r;
	report_check(&l.targets, options->fail_closed, options->pin_dir);
	if (options->config_has_others)
		printf("checked section [load] of '%s'; to check section [relay]: tproxy-relay --check --config %s\n",
		       escape_text(options->config, strlen(options->config), shown, sizeof(shown)),
		       shell_quote(options->config, quoted, sizeof(quoted)));
	return 0;
}
