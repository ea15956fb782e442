// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See on_demand.h. */
#include "on_demand.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "foreign.h"
#include "host/cgroup.h"
#include "log.h"
#include "objects.h"
#include "pinned_link.h"
#include "pinned_prog.h"
#include "pins.h"
#include "rules_view.h"
#include "target_list.h"
#include "tproxy_abi.h"
#include "util.h"

static bool has_udp(const char *pin_dir)
{
	_cleanup_free_ struct tproxy_rules *rules = malloc(sizeof(*rules));

	return rules && rules_view_read_rules(pin_dir, rules) == 0 &&
	       rules->needs & TPROXY_NEEDS_UDP;
}

static bool has_block(const char *pin_dir)
{
	_cleanup_close_ int fd = -1;
	struct tproxy_block block;
	const __u32 key = 0;

	return bpffs_open_map(pin_dir, PINNED_BLOCK, /* writable= */ false, &fd) == 0 &&
	       bpf_map_lookup_elem(fd, &key, &block) == 0 &&
	       block.state & (TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_TRAFFIC);
}

unsigned int on_demand_needs(const char *pin_dir)
{
	unsigned int needs = ON_DEMAND_BIT(HOOK_NEED_NONE);

	if (has_udp(pin_dir))
		needs |= ON_DEMAND_BIT(HOOK_NEED_UDP);
	if (has_block(pin_dir))
		needs |= ON_DEMAND_BIT(HOOK_NEED_BLOCK);
	return needs;
}

/*
 * Refuses if the attachment would stop a foreign program that runs for the cgroup, as
 * load/foreign_check.c does.
 */
static int check_foreign(const struct pins *pins, const struct hook *hook,
			 const struct cgroup *cgroup)
{
	char text[FOREIGN_TEXT_LEN], fix[FOREIGN_FIX_LEN], name[PINS_LINK_LEN];
	struct foreign foreign;
	int r;

	pins_format_link(hook->name, cgroup->id, name);
	if (pins_exists(pins, name))
		return 0;
	r = foreign_find(cgroup, hook, /* own_prog_id= */ 0, &foreign);
	if (r < 0) {
		log_err("cannot look for other programs of %s at '%s': %s", hook->name,
			cgroup->path, strerror(-r));
		return r;
	}
	if (r == 0)
		return 0;
	foreign_describe(&foreign, cgroup, /* attached= */ false, text);
	foreign_fix(&foreign, fix);
	log_err("%s; run this first: %s", text, fix);
	return -EPERM;
}

static int attach_at(const struct pins *pins, const struct hook *hook, int prog_fd,
		     const struct tproxy_target *target)
{
	_cleanup_(cgroup_close) struct cgroup cgroup = CGROUP_NULL;
	bool is_new;
	int r;

	r = cgroup_open(target->path, &cgroup);
	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && cgroup.id != target->cgroup_id))
		return 0;
	if (r < 0) {
		log_err("cannot open the cgroup '%s': %s", target->path, cgroup_strerror(r));
		return r;
	}
	r = check_foreign(pins, hook, &cgroup);
	return r < 0 ? r : pinned_link_attach(pins, hook, &cgroup, prog_fd, &is_new);
}

/*
 * Returns true if the hook belongs at this target, as targets_want_scopes() and
 * targets_want_relay() of the loader decide: without a relay cgroup relays run in the scopes, and
 * in a relay cgroup within a scope the hook of the scope runs already.
 */
static bool is_wanted_at(const struct hook *hook, const struct tproxy_target *targets, size_t n,
			 const struct tproxy_target *target)
{
	const struct cgroup relay = { .path = (char *)target->path, .fd = -1 };
	size_t i;

	if (target->flags == TPROXY_TARGET_SCOPE)
		return hook->scope;
	if (target->flags != TPROXY_TARGET_RELAY || !hook->relay)
		return false;
	for (i = 0; i < n && hook->scope; i++) {
		const struct cgroup scope = { .path = (char *)targets[i].path, .fd = -1 };

		if (targets[i].flags == TPROXY_TARGET_SCOPE && cgroup_is_within(&relay, &scope))
			return false;
	}
	return true;
}

static int attach_hook(const struct pins *pins, const struct hook *hook,
		       const struct tproxy_target *targets, size_t n)
{
	_cleanup_close_ int prog_fd = pinned_prog_open(pins->path, hook->name);
	size_t i;
	int r = 0;

	if (prog_fd < 0) {
		log_err("cannot open '%s/prog_%s': %s", pins->path, hook->name, strerror(-prog_fd));
		return prog_fd;
	}
	for (i = 0; i < n && r == 0; i++) {
		if (is_wanted_at(hook, targets, n, &targets[i]))
			r = attach_at(pins, hook, prog_fd, &targets[i]);
	}
	return r;
}

int on_demand_attach(const struct pins *pins, enum hook_need need)
{
	_cleanup_free_ struct tproxy_target *targets = NULL;
	size_t n = 0, i;
	int r;

	r = target_list_read_pinned(pins->path, &targets, &n);
	if (r < 0)
		log_err("cannot read the cgroups in '%s/map_targets': %s", pins->path,
			strerror(-r));
	for (i = 0; i < _HOOK_MAX && r == 0; i++) {
		if (hooks[i].need == need)
			r = attach_hook(pins, &hooks[i], targets, n);
	}
	return r;
}

struct detaching {
	enum hook_need need;
	int error; /* the first one */
};

/* A callback of pins_for_each(). */
static int detach_if_of(struct pins *pins, const char *name, void *data)
{
	struct detaching *detaching = data;
	char hook_name[PINS_LINK_LEN];
	const struct hook *hook;
	uint64_t id;
	int r;

	if (pins_parse_link(name, hook_name, &id) < 0)
		return 0;
	hook = hook_by_name(hook_name);
	if (!hook || hook->need != detaching->need)
		return 0;
	r = pinned_link_remove(pins, name);
	if (detaching->error == 0)
		detaching->error = r;
	return 0;
}

int on_demand_detach(const struct pins *pins, enum hook_need need)
{
	struct pins all = { .path = pins->path, .fd = pins->fd };
	struct detaching detaching = { .need = need };
	int r = pins_for_each(&all, detach_if_of, &detaching);

	return r < 0 ? r : detaching.error;
}
