// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See pinned_link.h. */
#include "pinned_link.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "host/cgroup.h"
#include "log.h"
#include "objects.h"
#include "util.h"

int pinned_link_read(const struct pins *pins, const char *name, struct pinned_link *ret_link)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = -1;
	struct pinned_link link;
	char path[PATH_MAX];
	int r;

	r = pins_parse_link(name, link.hook, &link.cgroup_id);
	if (r < 0)
		return r;
	if (snprintf(path, sizeof(path), "%s/%s", pins->path, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	r = fd < 0 ? fd : bpf_obj_get_info_by_fd(fd, &info, &len);
	if (r < 0)
		return r;
	link.link_id = info.id;
	link.prog_id = info.prog_id;
	/* For a detached link the kernel reports cgroup id 0. */
	link.attached = info.cgroup.cgroup_id == link.cgroup_id;
	*ret_link = link;
	return 0;
}

/*
 * Replaces the program of a pinned link. Returns 0 if done, 1 if the link was dead because its
 * cgroup was removed, or -errno, logged. The pin of a dead link is removed.
 */
static int update_link(const struct pins *pins, const char *name, const char *path, int prog_fd)
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
	r = pins_remove(pins, name);
	return r < 0 ? r : 1;
}

int pinned_link_attach(const struct pins *pins, const struct hook *hook,
		       const struct cgroup *cgroup, int prog_fd, bool *ret_created)
{
	_cleanup_close_ int fd = -1;
	char name[PINS_LINK_LEN], path[PATH_MAX];
	int r;

	*ret_created = false;
	pins_format_link(hook->name, cgroup->id, name);
	r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	if (pins_exists(pins, name)) {
		r = update_link(pins, name, path, prog_fd);
		if (r <= 0)
			return r;
	}
	fd = bpf_link_create(prog_fd, cgroup->fd, hook->attach_type, NULL);
	if (fd < 0) {
		log_err("cannot attach %s to '%s': %s%s", hook->name, cgroup->path, strerror(-fd),
			fd == -EPERM
				? "; 'tproxyctl doctor --cgroup' names the program that prevents it"
				: "");
		return fd;
	}
	r = bpf_obj_pin(fd, path);
	if (r < 0) {
		log_err("cannot pin '%s': %s", path, strerror(-r));
		return r;
	}
	*ret_created = true;
	log_debug("attached %s to '%s'", hook->name, cgroup->path);
	return pins_set_access(pins, name, 0, PINNED_HOOK_MODE);
}

int pinned_link_remove(const struct pins *pins, const char *name)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int r;

	r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	fd = bpf_obj_get(path);
	/*
	 * -EINVAL: not a link, or a kernel before 5.9; -EOPNOTSUPP: a link that cannot be detached.
	 * Then only the pin is removed.
	 */
	if (fd >= 0) {
		r = bpf_link_detach(fd);
		if (r < 0 && r != -EOPNOTSUPP && r != -EINVAL) {
			log_err("cannot detach '%s': %s", path, strerror(-r));
			return r;
		}
	}
	log_debug("detached and removed '%s'", name);
	return pins_remove(pins, name);
}
