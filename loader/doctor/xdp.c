// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the interfaces of --xdp. map_targets has their names, the pins xdp_INDEX are
 * the links. An interface that is made again has no link until tproxy-load --follow or a load
 * attaches one, so packets from blocked addresses pass meanwhile.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "doctor.h"
#include "quote.h"
#include "state/follow_lock.h"
#include "state/pinned_prog.h"
#include "state/pins.h"
#include "state/target_list.h"
#include "state/xdp_holder.h"
#include "state/xdp_link.h"
#include "tproxy_abi.h"

struct check {
	struct doctor *d;
	struct tproxy_target *list;
	size_t n;
	__u32 prog_id; /* of the pinned program; 0: unknown */
	bool followed;
	size_t n_severed;
	bool good;
};

void doctor_fix_follow(struct doctor *d)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	if (strcmp(d->pin_dir, TPROXY_PIN_DIR) == 0)
		doctor_fix(d, "systemctl enable --now tproxy-follow");
	else
		doctor_fix(d, "run: tproxy-load --follow --pin-dir %s",
			   shell_quote(d->pin_dir, quoted, sizeof(quoted)));
}

static void fix_again(struct doctor *d)
{
	char again[PINS_AGAIN_LEN];

	doctor_fix(d, "%s", pins_format_again(d->pin_dir, again));
}

static void check_attached(struct check *check, const struct tproxy_target *target,
			   const struct xdp_look *look)
{
	struct doctor *d = check->d;
	char why[XDP_LINK_WHY_LEN];

	if (check->prog_id && look->link.prog_id != check->prog_id) {
		doctor_add(
			d, DOCTOR_ERROR, "xdp",
			"'%s' runs program %u, but program %u is pinned: an upgrade did not finish",
			target->path, look->link.prog_id, check->prog_id);
		fix_again(d);
		check->good = false;
	}
	if (look->interface.xdp != INTERFACE_XDP_GENERIC ||
	    interface_has_native(look->interface.index) <= 0)
		return;
	xdp_link_why(target, &look->interface, why);
	doctor_add(d, target->xdp_error ? DOCTOR_WARNING : DOCTOR_INFO, "xdp",
		   "'%s' is filtered in generic mode, though its driver has native mode: %s",
		   target->path, why);
	doctor_fix(d, "tproxy-load with --xdp-mode native, see PACKET FILTER in tproxy-load(8)");
	check->good = check->good && !target->xdp_error;
}

static void check_absent(struct check *check, const struct tproxy_target *target)
{
	doctor_add(check->d, DOCTOR_WARNING, "xdp",
		   check->followed
			   ? "the interface '%s' does not exist; it is filtered once it does"
			   : "the interface '%s' does not exist, and nothing will filter it",
		   target->path);
	if (!check->followed)
		doctor_fix_follow(check->d);
}

static void check_target(struct check *check, const struct tproxy_target *target)
{
	const struct pins pins = { .path = check->d->pin_dir, .fd = -1 };
	char text[XDP_HOLDER_LEN], fix[XDP_HOLDER_LEN], again[PINS_AGAIN_LEN];
	struct doctor *d = check->d;
	struct xdp_look look;

	xdp_link_look(&pins, target, &look);
	check->good = check->good && look.state == XDP_ATTACHED;
	switch (look.state) {
	case XDP_ATTACHED:
		check_attached(check, target, &look);
		break;
	case XDP_DETACHED:
		doctor_add(d, DOCTOR_ERROR, "xdp",
			   "'%s' is not filtered: it was made again, or its link was detached",
			   target->path);
		fix_again(d);
		break;
	case XDP_FOREIGN:
		doctor_add(d, DOCTOR_ERROR, "xdp", "'%s' is not filtered: it has %s", target->path,
			   xdp_holder_describe(&look.interface, text));
		doctor_fix(d, "%s; then %s", xdp_holder_fix(&look.interface, fix),
			   pins_format_again(d->pin_dir, again));
		break;
	case XDP_UNFIT:
		doctor_add(d, DOCTOR_ERROR, "xdp",
			   "'%s' is not filtered: it has no Ethernet frames", target->path);
		doctor_fix(d, "leave it out of --xdp");
		break;
	case XDP_ABSENT:
		check_absent(check, target);
		break;
	case XDP_ELSEWHERE:
	case XDP_UNKNOWN:
		doctor_add(
			d, DOCTOR_INFO, "xdp",
			"whether '%s' is filtered is unknown here: it is of another network namespace",
			target->path);
		break;
	}
}

/* A callback of pins_for_each(). */
static int check_pin(struct pins *pins, const char *name, void *data)
{
	struct check *check = data;
	struct xdp_link link;
	struct xdp_look look;
	size_t i;

	if (xdp_link_read(pins, name, &link) < 0)
		return 0;
	check->n_severed += link.severed;
	for (i = 0; i < check->n; i++) {
		xdp_link_look(pins, &check->list[i], &look);
		/* That of another network namespace may be the one. */
		if (look.state == XDP_ELSEWHERE || look.state == XDP_UNKNOWN ||
		    (look.state == XDP_ATTACHED && look.link.index == link.index))
			return 0;
	}
	if (link.severed)
		return 0;
	doctor_add(check->d, DOCTOR_WARNING, "xdp",
		   "'%s/%s' filters an interface (index %d) that the load does not name",
		   pins->path, name, link.index);
	fix_again(check->d);
	check->good = false;
	return 0;
}

void doctor_xdp(struct doctor *d)
{
	struct check check = { .d = d, .good = true };
	struct pins pins = { .path = d->pin_dir, .fd = -1 };
	size_t i;

	if (!d->privileged || !d->loaded || d->read_only ||
	    target_list_read_xdp_pinned(d->pin_dir, &check.list, &check.n) < 0)
		return;
	check.prog_id = pinned_prog_id(d->pin_dir, "xdp");
	check.followed = follow_lock_holder(d->pin_dir) > 0;
	for (i = 0; i < check.n; i++)
		check_target(&check, &check.list[i]);
	pins_for_each(&pins, check_pin, &check);
	if (check.n_severed > 0)
		doctor_add(
			d, DOCTOR_INFO, "xdp",
			"%zu links of interfaces that are gone are pinned; the next load removes them",
			check.n_severed);
	if (check.n > 0 && !check.followed) {
		doctor_add(
			d, DOCTOR_WARNING, "xdp",
			"tproxy-load --follow does not run: an interface that is made again is not filtered");
		doctor_fix_follow(d);
	}
	if (check.good && check.n > 0)
		doctor_add(d, DOCTOR_OK, "xdp", "all %zu interfaces are filtered", check.n);
	free(check.list);
}
