// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See xdp_link.h. */
#include "xdp_link.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/netns_tour.h"
#include "log.h"
#include "objects.h"
#include "pinned_link.h"
#include "tproxy_abi.h"
#include "util.h"
#include "xdp_holder.h"

void xdp_link_format(int index, char buf[PINS_LINK_LEN])
{
	snprintf(buf, PINS_LINK_LEN, XDP_LINK_PREFIX "%x", (unsigned int)index);
}

int xdp_link_parse(const char *name, int *ret_index)
{
	char again[PINS_LINK_LEN];
	unsigned int index;

	if (sscanf(name, XDP_LINK_PREFIX "%x", &index) != 1 || !index || index > INT_MAX)
		return -EINVAL;
	xdp_link_format((int)index, again);
	if (strcmp(name, again) != 0)
		return -EINVAL;
	*ret_index = (int)index;
	return 0;
}

int xdp_link_read(const struct pins *pins, const char *name, struct xdp_link *ret_link)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = -1;
	struct xdp_link link = {};
	char path[PATH_MAX];
	int r;

	r = xdp_link_parse(name, &link.index);
	if (r < 0)
		return r;
	if (snprintf(path, sizeof(path), "%s/%s", pins->path, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	r = fd < 0 ? fd : bpf_obj_get_info_by_fd(fd, &info, &len);
	if (r < 0)
		return r;
	if (info.type != BPF_LINK_TYPE_XDP)
		return -EINVAL;
	link.severed = !info.xdp.ifindex;
	link.link_id = info.id;
	link.prog_id = info.prog_id;
	*ret_link = link;
	return 0;
}

void xdp_link_look(const struct pins *pins, const struct tproxy_target *target,
		   struct xdp_look *ret_look)
{
	struct xdp_look look = { .state = XDP_UNKNOWN };
	char name[PINS_LINK_LEN];
	uint64_t cookie;
	int r;

	*ret_look = look;
	if (netns_tour_cookie(&cookie) < 0)
		return;
	if (cookie != target->cgroup_id) {
		ret_look->state = XDP_ELSEWHERE;
		return;
	}
	r = interface_find(target->path, &look.interface);
	if (r < 0) {
		ret_look->state = r == -ENODEV ? XDP_ABSENT : XDP_UNKNOWN;
		return;
	}
	if (look.interface.type != ARPHRD_ETHER && look.interface.type != ARPHRD_LOOPBACK) {
		look.state = XDP_UNFIT;
		*ret_look = look;
		return;
	}
	xdp_link_format(look.interface.index, name);
	r = xdp_link_read(pins, name, &look.link);
	if (r == 0 && !look.link.severed && look.link.prog_id == look.interface.prog_id)
		look.state = XDP_ATTACHED;
	else if (look.interface.prog_id)
		look.state = r == 0 || r == -ENOENT ? XDP_FOREIGN : XDP_UNKNOWN;
	else
		look.state = XDP_DETACHED;
	*ret_look = look;
}

const char *xdp_link_wanted(const struct tproxy_target *target)
{
	return target->xdp_mode == TPROXY_XDP_NATIVE	? "native"
	       : target->xdp_mode == TPROXY_XDP_GENERIC ? "generic"
							: "auto";
}

static int create(int prog_fd, int index, __u32 mode)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = mode);

	return bpf_link_create(prog_fd, index, BPF_XDP, &opts);
}

/*
 * Creates a link in the mode that is asked for. In generic mode *ret_error is why it is not native.
 * Returns an fd or -errno.
 */
static int create_in_mode(int prog_fd, int index, enum tproxy_xdp_mode mode, int *ret_error)
{
	int fd;

	*ret_error = 0;
	if (mode == TPROXY_XDP_GENERIC)
		return create(prog_fd, index, XDP_FLAGS_SKB_MODE);
	fd = create(prog_fd, index, XDP_FLAGS_DRV_MODE);
	/* Those are about the interface, not about the mode. */
	if (fd >= 0 || mode == TPROXY_XDP_NATIVE || fd == -EBUSY || fd == -EEXIST || fd == -EPERM ||
	    fd == -ENODEV)
		return fd;
	*ret_error = -fd;
	return create(prog_fd, index, XDP_FLAGS_SKB_MODE);
}

static int pin(const struct pins *pins, const char *name, int fd, bool *ret_created)
{
	char path[PATH_MAX];
	int r;

	r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	r = bpf_obj_pin(fd, path);
	if (r < 0) {
		log_err("cannot pin '%s': %s", path, strerror(-r));
		return r;
	}
	*ret_created = true;
	return pins_set_access(pins, name, 0, PINNED_HOOK_MODE);
}

static int attach_new(const struct pins *pins, int prog_fd, struct tproxy_target *target,
		      const struct interface *interface, bool *ret_created)
{
	_cleanup_close_ int fd = -1;
	char name[PINS_LINK_LEN];
	int error, r;

	xdp_link_format(interface->index, name);
	r = pins_remove(pins, name);
	if (r < 0)
		return r;
	fd = create_in_mode(prog_fd, interface->index, (enum tproxy_xdp_mode)target->xdp_mode,
			    &error);
	if (fd == -ENODEV)
		return fd;
	if (fd < 0) {
		log_err("cannot attach to the interface '%s'%s: %s", target->path,
			target->xdp_mode == TPROXY_XDP_NATIVE ? " in native mode" : "",
			strerror(-fd));
		return fd;
	}
	target->xdp_error = (__u16)error;
	r = pin(pins, name, fd, ret_created);
	if (r == 0)
		log_debug("attached to the interface '%s'", target->path);
	return r;
}

static bool is_other_mode(enum tproxy_xdp_mode wanted, enum interface_xdp now)
{
	return (wanted == TPROXY_XDP_NATIVE && now != INTERFACE_XDP_NATIVE) ||
	       (wanted == TPROXY_XDP_GENERIC && now != INTERFACE_XDP_GENERIC);
}

/*
 * A link cannot change its mode, and an interface has one link. If the new mode fails, the program
 * is attached in the previous one.
 */
static int change_mode(const struct pins *pins, int prog_fd, struct tproxy_target *target,
		       const struct interface *interface)
{
	const __u16 wanted = target->xdp_mode;
	char name[PINS_LINK_LEN];
	bool is_new;
	int r;

	xdp_link_format(interface->index, name);
	r = pinned_link_remove(pins, name);
	if (r == 0)
		r = attach_new(pins, prog_fd, target, interface, &is_new);
	if (r < 0) {
		target->xdp_mode =
			wanted == TPROXY_XDP_NATIVE ? TPROXY_XDP_GENERIC : TPROXY_XDP_NATIVE;
		attach_new(pins, prog_fd, target, interface, &is_new);
		target->xdp_mode = wanted;
	}
	return r;
}

static int update(const struct pins *pins, int prog_fd, const struct tproxy_target *target,
		  const struct interface *interface)
{
	_cleanup_close_ int fd = -1;
	char name[PINS_LINK_LEN], path[PATH_MAX];
	int r;

	xdp_link_format(interface->index, name);
	r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	fd = bpf_obj_get(path);
	r = fd < 0 ? fd : bpf_link_update(fd, prog_fd, NULL);
	/* The interface was removed after the look. */
	if (r == -ENOLINK)
		return -ENODEV;
	if (r < 0)
		log_err("cannot update '%s' at the interface '%s': %s", path, target->path,
			strerror(-r));
	else
		log_debug("updated '%s'", name);
	return r;
}

int xdp_link_attach(const struct pins *pins, int prog_fd, struct tproxy_target *target,
		    bool *ret_created)
{
	struct xdp_look look;

	*ret_created = false;
	xdp_link_look(pins, target, &look);
	switch (look.state) {
	case XDP_ATTACHED:
		if (is_other_mode((enum tproxy_xdp_mode)target->xdp_mode, look.interface.xdp))
			return change_mode(pins, prog_fd, target, &look.interface);
		return update(pins, prog_fd, target, &look.interface);
	case XDP_DETACHED:
		return attach_new(pins, prog_fd, target, &look.interface, ret_created);
	case XDP_FOREIGN:
		xdp_holder_log(target->path, &look.interface);
		return -EBUSY;
	case XDP_ABSENT:
		return -ENODEV;
	case XDP_UNFIT:
		log_err("the interface '%s' has no Ethernet frames, which --xdp filters",
			target->path);
		return -EOPNOTSUPP;
	default:
		log_err("cannot look for the interface '%s'", target->path);
		return -EINVAL;
	}
}

char *xdp_link_why(const struct tproxy_target *target, const struct interface *interface,
		   char buf[XDP_LINK_WHY_LEN])
{
	char driver[INTERFACE_DRIVER_LEN] = "";

	*buf = '\0';
	if (interface->xdp != INTERFACE_XDP_GENERIC)
		return buf;
	if (target->xdp_mode == TPROXY_XDP_GENERIC)
		return strcpy(buf, "as asked for");
	if (interface_driver(interface->name, driver) < 0)
		*driver = '\0';
	/* EOPNOTSUPP is also the answer of drivers whose present settings exclude it. */
	if (target->xdp_error == EOPNOTSUPP && interface_has_native(interface->index) <= 0)
		snprintf(buf, XDP_LINK_WHY_LEN,
			 *driver ? "the driver %s has no native mode"
				 : "the interface has no native mode",
			 driver);
	else if (target->xdp_error)
		snprintf(buf, XDP_LINK_WHY_LEN,
			 "the driver %s refuses native mode now: %s; see its MTU, queues and LRO",
			 driver, strerror(target->xdp_error));
	else
		strcpy(buf, "for a reason that is not known");
	return buf;
}
