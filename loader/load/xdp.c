// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the interfaces of --xdp, see xdp.h.
 *
 * They are looked at before the load changes anything, so that an interface of another program
 * fails it in time. The program is attached to each by a pinned link (state/xdp_link.h), and the
 * names go into map_targets. follow.c attaches to interfaces that appear later.
 *
 * An interface that does not exist is reported and no error: a unit at boot must not fail because
 * of a device that is plugged in later.
 */
#include "xdp.h"

#include <errno.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "created.h"
#include "escape.h"
#include "host/netns_tour.h"
#include "log.h"
#include "objects.h"
#include "options.h"
#include "programs.h"
#include "quote.h"
#include "state/pinned_link.h"
#include "state/pins.h"
#include "state/target_list.h"
#include "state/xdp_holder.h"
#include "state/xdp_link.h"
#include "tproxy_abi.h"
#include "util.h"

int xdp_step_open(const struct load_options *options, struct xdp_step *step)
{
	uint64_t cookie;
	size_t i;
	int r;

	if (options->n_xdp == 0)
		return 0;
	step->list = calloc(options->n_xdp, sizeof(*step->list));
	r = step->list ? netns_tour_cookie(&cookie) : -ENOMEM;
	if (r < 0) {
		log_err("cannot prepare the interfaces of --xdp: %s", strerror(-r));
		return r;
	}
	if (options->xdp_netns && options->xdp_netns != cookie) {
		step->elsewhere = true;
		cookie = options->xdp_netns;
	}
	for (i = 0; i < options->n_xdp; i++) {
		step->list[i] = (struct tproxy_target){
			.cgroup_id = cookie,
			.flags = TPROXY_TARGET_XDP,
			.xdp_mode = (__u16)options->xdp_mode,
		};
		strcpy(step->list[i].path, options->xdp[i]);
	}
	step->n = options->n_xdp;
	return 0;
}

void xdp_step_finish(struct xdp_step *step)
{
	free(step->list);
	free(step->before);
	*step = (struct xdp_step){};
}

int xdp_step_check(const struct pins *pins, const struct xdp_step *step)
{
	struct xdp_look look;
	size_t i;

	for (i = 0; i < step->n && !step->elsewhere; i++) {
		xdp_link_look(pins, &step->list[i], &look);
		if (look.state == XDP_FOREIGN) {
			xdp_holder_log(step->list[i].path, &look.interface);
			return -EBUSY;
		}
		if (look.state == XDP_UNFIT) {
			log_err("the interface '%s' has no Ethernet frames, which --xdp filters",
				step->list[i].path);
			return -EOPNOTSUPP;
		}
		if (step->list[i].xdp_mode != TPROXY_XDP_NATIVE || look.state == XDP_ABSENT ||
		    look.state == XDP_UNKNOWN || interface_has_native(look.interface.index) != 0)
			continue;
		log_err("the interface '%s' has no native mode; leave out --xdp-mode native",
			step->list[i].path);
		return -EOPNOTSUPP;
	}
	return 0;
}

void xdp_step_read_before(int targets_fd, struct xdp_step *step)
{
	if (target_list_read_xdp(targets_fd, &step->before, &step->n_before) < 0)
		step->n_before = 0;
}

static const struct tproxy_target *find_before(const struct xdp_step *step, const char *name)
{
	size_t i;

	for (i = 0; i < step->n_before; i++) {
		if (strcmp(step->before[i].path, name) == 0)
			return &step->before[i];
	}
	return NULL;
}

/*
 * A callback of pins_for_each(). Gives a link the new program, also if its interface is one of
 * another network namespace, where nothing can be looked up by name.
 */
static int update_link(struct pins *pins, const char *name, void *data)
{
	const int *prog_fd = data;
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	struct xdp_link link;
	int r;

	if (xdp_link_read(pins, name, &link) < 0 || link.severed)
		return 0;
	r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	fd = bpf_obj_get(path);
	r = fd < 0 ? fd : bpf_link_update(fd, *prog_fd, NULL);
	/* Its interface was removed just now. */
	if (r == -ENOLINK)
		return 0;
	if (r < 0)
		log_err("cannot update '%s': %s", path, strerror(-r));
	return r;
}

int xdp_step_attach(const struct bpf_object *object, struct pins *pins, struct xdp_step *step,
		    struct created *created)
{
	int prog_fd = bpf_program__fd(programs_find(object, &hooks[HOOK_XDP]));
	const struct tproxy_target *before;
	char name[PINS_LINK_LEN];
	struct xdp_look look;
	bool is_new;
	size_t i;
	int r;

	for (i = 0; i < step->n; i++) {
		/* A link that stays has the mode that it got then, for the reason of then. */
		before = find_before(step, step->list[i].path);
		if (before)
			step->list[i].xdp_error = before->xdp_error;
		if (step->elsewhere)
			continue;
		r = xdp_link_attach(pins, prog_fd, &step->list[i], &is_new);
		if (is_new) {
			xdp_link_look(pins, &step->list[i], &look);
			xdp_link_format(look.interface.index, name);
			created_add(created, name);
		}
		if (r < 0 && r != -ENODEV)
			return r;
	}
	return step->elsewhere ? pins_for_each(pins, update_link, &prog_fd) : 0;
}

/* Arguments and results of detach_if_unwanted(). */
struct unwanted {
	const struct xdp_step *step;
	int error; /* the first one */
};

/* Returns true if the pin is, or may be, that of the link on an interface of this load. */
static bool is_wanted(const struct pins *pins, const struct xdp_step *step,
		      const struct xdp_link *link)
{
	struct xdp_look look;
	size_t i;

	if (step->elsewhere)
		return !link->severed;
	for (i = 0; i < step->n; i++) {
		xdp_link_look(pins, &step->list[i], &look);
		if (look.state == XDP_ATTACHED && look.link.index == link->index)
			return true;
		/* It may be the link of this interface, and the load has just attached that. */
		if (look.state == XDP_UNKNOWN && !link->severed)
			return true;
	}
	return false;
}

/* A callback of pins_for_each(). */
static int detach_if_unwanted(struct pins *pins, const char *name, void *data)
{
	struct unwanted *unwanted = data;
	struct xdp_link link;
	int r;

	if (xdp_link_read(pins, name, &link) < 0 || is_wanted(pins, unwanted->step, &link))
		return 0;
	r = pinned_link_remove(pins, name);
	if (r < 0 && unwanted->error == 0)
		unwanted->error = r;
	return 0;
}

int xdp_step_detach(struct pins *pins, const struct xdp_step *step)
{
	struct unwanted unwanted = { .step = step };
	int r = pins_for_each(pins, detach_if_unwanted, &unwanted);

	return r < 0 ? r : unwanted.error;
}

static void report_one(const struct pins *pins, const struct tproxy_target *target)
{
	char why[XDP_LINK_WHY_LEN], name[ESCAPE_LEN(IFNAMSIZ)];
	struct xdp_look look;

	escape_text(target->path, strlen(target->path), name, sizeof(name));
	xdp_link_look(pins, target, &look);
	if (look.state == XDP_ABSENT) {
		printf("interface '%s' does not exist; tproxy-load --follow filters it once it does\n",
		       name);
		return;
	}
	if (look.state == XDP_ELSEWHERE) {
		printf("interface '%s' is one of another network namespace, where it stays as it was; to filter one of this namespace, load with all options\n",
		       name);
		return;
	}
	if (look.state != XDP_ATTACHED) {
		printf("interface '%s': %s\n", name,
		       look.state == XDP_UNKNOWN ? "attached, but the result cannot be read"
						 : "no longer filtered: it has changed since");
		return;
	}
	xdp_link_why(target, &look.interface, why);
	printf("interface '%s': filtered, %s%s%s\n", name, interface_xdp_name(look.interface.xdp),
	       *why ? ": " : "", why);
}

static bool is_of_here(const struct tproxy_target *target)
{
	uint64_t cookie;

	return netns_tour_cookie(&cookie) == 0 && cookie == target->cgroup_id;
}

void xdp_step_report(const struct pins *pins, const struct xdp_step *step)
{
	char name[ESCAPE_LEN(IFNAMSIZ)];
	size_t i, j;

	for (i = 0; i < step->n; i++)
		report_one(pins, &step->list[i]);
	for (i = 0; i < step->n_before; i++) {
		for (j = 0; j < step->n; j++) {
			if (strcmp(step->before[i].path, step->list[j].path) == 0 &&
			    step->before[i].cgroup_id == step->list[j].cgroup_id)
				break;
		}
		escape_text(step->before[i].path, strnlen(step->before[i].path, IFNAMSIZ - 1), name,
			    sizeof(name));
		if (j == step->n)
			printf("interface '%s'%s: no longer filtered\n", name,
			       is_of_here(&step->before[i]) ? "" : " of another network namespace");
	}
}
