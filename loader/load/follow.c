// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load --follow, see follow.h. The process is small, and holds no state that matters:
 * everything is in the pins, and nothing is detached if it ends.
 *
 *   an interface of --xdp appears, or has lost its link      attach, and pin the link
 *   rules or a block list wait for a confirmation, and the
 *   process that waited with them is gone                    take them back
 *   an entry of the block list has ended                     remove it
 *
 * It looks once a second, and at once when the kernel reports an interface of a name that it waits
 * for. A look takes no lock. If there is something to do, it takes the lock of the pin directory as
 * a loader does, reads again, and does it. A load beside it thus sees whole steps.
 *
 * If nothing is loaded it waits for a load. A failure is logged and tried again RETRY_MS later, or
 * soon after the kernel has reported the interface.
 */
#include "follow.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpffs.h"
#include "follow_block.h"
#include "host/interface.h"
#include "host/namespaces.h"
#include "log.h"
#include "monotonic.h"
#include "objects.h"
#include "options.h"
#include "state/follow_lock.h"
#include "state/pinned_link.h"
#include "state/pinned_prog.h"
#include "state/pins.h"
#include "state/rules_abandoned.h"
#include "state/target_list.h"
#include "state/xdp_holder.h"
#include "state/xdp_link.h"
#include "tproxy_abi.h"
#include "types.h"
#include "util.h"

#define LOOK_MS	 1000
#define RETRY_MS 60000
/* Least time from a message of the kernel to the next attempt: a driver may send one at each. */
#define RETRY_LEAST_MS 1000
#define BUFFER_SIZE    32768

/* What is known of an interface, so that a change is logged once. */
struct seen {
	char name[IFNAMSIZ];
	enum xdp_state state;
	__u32 foreign_id;  /* of the program that is attached instead */
	uint64_t retry_ms; /* no attempt before this time; 0: any time */
};

struct follow {
	const char *pin_dir;
	uint64_t block_retry_ms; /* the block list is not looked at before this time */
	int watch_fd, signal_fd, lock_fd;
	bool idle;	   /* it was logged that there is nothing to serve */
	bool rules_failed; /* rules that nobody confirmed could not be taken back */
	struct seen seen[LOAD_OPTIONS_XDP_MAX];
	size_t n_seen;
};

static struct seen *seen_find(struct follow *f, const char *name)
{
	size_t i;

	for (i = 0; i < f->n_seen; i++) {
		if (strcmp(f->seen[i].name, name) == 0)
			return &f->seen[i];
	}
	return NULL;
}

/* Makes f->seen the interfaces of this list, and keeps what is known of them. */
static void seen_renew(struct follow *f, const struct tproxy_target *list, size_t n)
{
	struct seen next[LOAD_OPTIONS_XDP_MAX];
	const struct seen *old;
	size_t i;

	n = n < LOAD_OPTIONS_XDP_MAX ? n : LOAD_OPTIONS_XDP_MAX;
	for (i = 0; i < n; i++) {
		old = seen_find(f, list[i].path);
		next[i] = old ? *old : (struct seen){ .state = XDP_ATTACHED };
		snprintf(next[i].name, sizeof(next[i].name), "%.*s", IFNAMSIZ - 1, list[i].path);
	}
	memcpy(f->seen, next, n * sizeof(next[0]));
	f->n_seen = n;
}

/* A callback of pins_for_each(). */
static int remove_if_severed(struct pins *pins, const char *name, void *data)
{
	struct xdp_link link;

	if (xdp_link_read(pins, name, &link) == 0 && link.severed)
		pinned_link_remove(pins, name);
	return 0;
}

/* Finds the interface in the list in force, which a load may have replaced since the look. */
static int read_target(int map_fd, const char *name, struct tproxy_target *ret_target)
{
	_cleanup_free_ struct tproxy_target *list = NULL;
	size_t n = 0, i;
	int r;

	r = target_list_read_xdp(map_fd, &list, &n);
	for (i = 0; i < n; i++) {
		if (strcmp(list[i].path, name) == 0) {
			*ret_target = list[i];
			return 0;
		}
	}
	return r < 0 ? r : -ENOENT;
}

static int attach_locked(struct pins *pins, const char *name)
{
	_cleanup_close_ int map_fd = -1, prog_fd = -1;
	char why[XDP_LINK_WHY_LEN];
	struct tproxy_target target;
	struct xdp_look look;
	bool is_new;
	int r;

	r = bpffs_open_map(pins->path, PINNED_TARGETS, /* writable= */ true, &map_fd);
	if (r == 0)
		r = read_target(map_fd, name, &target);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	prog_fd = pinned_prog_open(pins->path, "xdp");
	if (prog_fd < 0)
		return prog_fd;
	r = xdp_link_attach(pins, prog_fd, &target, &is_new);
	if (r < 0)
		return r == -ENODEV ? 0 : r;
	target_list_update_xdp(map_fd, &target);
	pins_for_each(pins, remove_if_severed, NULL);
	xdp_link_look(pins, &target, &look);
	xdp_link_why(&target, &look.interface, why);
	log_info("interface '%s': filtered again, %s%s%s", name,
		 interface_xdp_name(look.interface.xdp), *why ? ": " : "", why);
	return 0;
}

static void attach(struct follow *f, struct seen *seen)
{
	const uint64_t now_ms = monotonic_coarse_ms();
	struct pins pins = PINS_NULL;
	int r;

	if (now_ms < seen->retry_ms)
		return;
	r = pins_open(f->pin_dir, /* create= */ false, &pins);
	if (r == 0)
		r = attach_locked(&pins, seen->name);
	pins_close(&pins);
	seen->retry_ms = r < 0 && r != -ENOENT ? now_ms + RETRY_MS : 0;
	if (seen->retry_ms)
		log_err("interface '%s' is not filtered: %s; trying again", seen->name,
			strerror(-r));
}

/* Logs what has changed at an interface, unless attach() does. */
static void log_change(struct seen *seen, const struct xdp_look *look)
{
	const __u32 foreign_id = look->state == XDP_FOREIGN ? look->interface.prog_id : 0;
	char text[XDP_HOLDER_LEN];

	if (look->state == XDP_ABSENT && seen->state != XDP_ABSENT)
		log_info("interface '%s' does not exist; it is filtered once it does", seen->name);
	if (look->state == XDP_ELSEWHERE && seen->state != XDP_ELSEWHERE)
		log_warning(
			"interface '%s' is one of another network namespace: start --follow there",
			seen->name);
	if (foreign_id && foreign_id != seen->foreign_id)
		log_warning("interface '%s' is not filtered: it has %s, which is not replaced",
			    seen->name, xdp_holder_describe(&look->interface, text));
	if (look->state == XDP_UNFIT && seen->state != XDP_UNFIT)
		log_warning("interface '%s' is not filtered: it has no Ethernet frames",
			    seen->name);
	seen->state = look->state;
	seen->foreign_id = foreign_id;
}

static int look_at_interfaces(struct follow *f)
{
	const struct pins pins = { .path = f->pin_dir, .fd = -1 };
	_cleanup_free_ struct tproxy_target *list = NULL;
	struct xdp_look look;
	size_t n = 0, i;
	int r;

	r = target_list_read_xdp_pinned(f->pin_dir, &list, &n);
	if (r < 0)
		return r;
	seen_renew(f, list, n);
	for (i = 0; i < f->n_seen; i++) {
		xdp_link_look(&pins, &list[i], &look);
		log_change(&f->seen[i], &look);
		if (look.state == XDP_DETACHED)
			attach(f, &f->seen[i]);
	}
	return 0;
}

/* Takes rules back that nobody confirmed. A failure is logged once, and tried again by a load. */
static void look_at_rules(struct follow *f)
{
	const bool abandoned = rules_are_abandoned(f->pin_dir);
	struct types types;

	if (abandoned && !f->rules_failed) {
		f->rules_failed =
			types_open(&types) < 0 ||
			rules_abandoned_take_back(f->pin_dir, &types.rules, &types.sets) < 0;
		types_close(&types);
	} else if (!abandoned) {
		f->rules_failed = false;
	}
}

static void look_at_block_list(struct follow *f)
{
	const uint64_t now_ms = monotonic_coarse_ms();

	if (now_ms >= f->block_retry_ms && follow_block(f->pin_dir) < 0)
		f->block_retry_ms = now_ms + RETRY_MS;
}

static void log_idle(struct follow *f, int r)
{
	if (!f->idle)
		log_info("%s in '%s'; waiting for a load",
			 r == -EPROTO ? "another ABI version is loaded" : "nothing is loaded",
			 f->pin_dir);
	f->idle = true;
}

/* Looks once. Returns 0, or -errno if this process cannot serve. */
static int look(struct follow *f)
{
	uint32_t version = 0;
	int r;

	r = bpffs_abi_version(f->pin_dir, &version);
	/* A load that has just begun has not written it yet. */
	if (r == 0 && !version)
		r = -ENOENT;
	if (r == 0 && version != TPROXY_ABI_VERSION)
		r = -EPROTO;
	if (r == 0)
		r = follow_lock_take(f->pin_dir, &f->lock_fd);
	if (r == -EBUSY) {
		log_err("process %d follows for '%s' already", follow_lock_holder(f->pin_dir),
			f->pin_dir);
		return r;
	}
	if (r == 0)
		r = look_at_interfaces(f);
	if (r == 0)
		look_at_rules(f);
	if (r == 0)
		look_at_block_list(f);
	if (r == -ENOENT || r == -EPROTO) {
		log_idle(f, r);
		return 0;
	}
	if (r < 0)
		log_err("cannot read what is pinned in '%s': %s", f->pin_dir, strerror(-r));
	f->idle = false;
	return r;
}

/* Returns true if the message is about an interface of a name that is waited for. */
static bool is_about_ours(struct follow *f, const struct nlmsghdr *msg)
{
	const uint64_t now_ms = monotonic_coarse_ms();
	const struct ifinfomsg *info = NLMSG_DATA(msg);
	const struct rtattr *attr = IFLA_RTA(info);
	int len = (int)IFLA_PAYLOAD(msg);
	struct seen *seen;

	if (msg->nlmsg_type != RTM_NEWLINK && msg->nlmsg_type != RTM_DELLINK)
		return false;
	for (; RTA_OK(attr, len); attr = RTA_NEXT(attr, len)) {
		if (attr->rta_type != IFLA_IFNAME)
			continue;
		seen = seen_find(f, RTA_DATA(attr));
		if (seen && seen->retry_ms > now_ms + RETRY_LEAST_MS)
			seen->retry_ms = now_ms + RETRY_LEAST_MS;
		return seen;
	}
	return false;
}

/*
 * Reads all messages. Returns true if it is time to look. Messages that were lost (ENOBUFS) may
 * have been about any interface.
 */
static bool read_messages(struct follow *f)
{
	alignas(NLMSG_ALIGNTO) char buffer[BUFFER_SIZE];
	bool ours = false;
	ssize_t len;

	while ((len = recv(f->watch_fd, buffer, sizeof(buffer), 0)) != 0) {
		const struct nlmsghdr *msg = (const struct nlmsghdr *)buffer;

		if (len < 0 && errno != ENOBUFS)
			break;
		ours |= len < 0;
		for (; len > 0 && NLMSG_OK(msg, len); msg = NLMSG_NEXT(msg, len))
			ours |= is_about_ours(f, msg);
	}
	return ours;
}

static int loop(struct follow *f)
{
	struct pollfd fds[] = {
		{ .fd = f->signal_fd, .events = POLLIN },
		{ .fd = f->watch_fd, .events = POLLIN },
	};
	uint64_t next_ms = 0, now_ms;
	int r = 0;

	while (r == 0 && !fds[0].revents) {
		now_ms = monotonic_coarse_ms();
		if ((fds[1].revents && read_messages(f)) || now_ms >= next_ms) {
			r = look(f);
			next_ms = now_ms + LOOK_MS;
			continue;
		}
		if (poll(fds, ARRAY_SIZE(fds), (int)(next_ms - now_ms)) < 0 && errno != EINTR)
			r = -errno;
	}
	return r;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void follow_finish(struct follow *f)
{
	util_closep(&f->lock_fd);
	util_closep(&f->watch_fd);
	util_closep(&f->signal_fd);
}

int follow(const char *pin_dir)
{
	_cleanup_(follow_finish) struct follow f = { .pin_dir = pin_dir, .lock_fd = -1 };

	f.signal_fd = open_signals();
	f.watch_fd = interface_watch();
	if (f.signal_fd < 0 || f.watch_fd < 0) {
		log_err("cannot watch interfaces: %s",
			strerror(f.watch_fd < 0 ? -f.watch_fd : errno));
		return f.watch_fd < 0 ? f.watch_fd : -errno;
	}
	return loop(&f);
}
