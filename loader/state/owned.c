// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: whether a pin is tproxy's, see owned.h.
 *
 * A pin is tproxy's if this version pins something by that name, and the object there has the right
 * kind and kernel name. Nothing else is replaced or removed. objects.h has the names of maps. Each
 * hook there has a program, prog_NAME, and links, link_NAME_<cgroup id>; the links of xdp are
 * xdp_<index of the interface>. A link has no kernel name, so the name of its program is compared.
 * The rings of relays are ring_<index>, and all have the same kernel name.
 */
#include "owned.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/bpffs_mount.h"
#include "objects.h"
#include "pins.h"
#include "xdp_link.h"
#include "util.h"

static const struct hook *hook_of_link(const char *name)
{
	char hook[PINS_LINK_LEN], again[PINS_LINK_LEN];
	uint64_t id;

	if (pins_parse_link(name, hook, &id) < 0)
		return NULL;
	pins_format_link(hook, id, again);
	return strcmp(name, again) == 0 ? hook_by_name(hook) : NULL;
}

/*
 * bpf_obj_get() opens maps, programs and links alike, and the kernel fills the info of another kind
 * without an error. The link in /proc names the kind.
 */
static bool is_kind(int fd, const char *kind)
{
	char path[64], text[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, text, sizeof(text) - 1);
	text[len < 0 ? 0 : len] = '\0';
	return strncmp(text, "anon_inode:", 11) == 0 && strcmp(text + 11, kind) == 0;
}

/* The kernel keeps 15 bytes of a name (BPF_OBJ_NAME_LEN is 16). */
static bool is_named(const char kernel_name[BPF_OBJ_NAME_LEN], const char *name)
{
	return strncmp(kernel_name, name, BPF_OBJ_NAME_LEN - 1) == 0;
}

static bool is_our_map(int fd, const char *name)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	return is_kind(fd, "bpf-map") && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
	       is_named(info.name, name);
}

static bool is_our_program(int fd, const char *name)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	return is_kind(fd, "bpf-prog") && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
	       is_named(info.name, name);
}

/* Returns true if an open failed for lack of descriptors or memory, whatever is pinned there. */
static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/*
 * Tells whether a pinned link is of this type, and runs the program of this name. Returns 1, 0 or
 * -errno, as owned_by_tproxy().
 */
static int is_our_link(int fd, enum bpf_link_type type, const char *program)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int prog_fd = -1;

	if (!is_kind(fd, "bpf_link") && !is_kind(fd, "bpf-link"))
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0 || info.type != type)
		return 0;
	prog_fd = bpf_prog_get_fd_by_id(info.prog_id);
	if (prog_fd < 0)
		return is_shortage(errno) ? -errno : errno == EPERM;
	return is_our_program(prog_fd, program);
}

static bool is_list(const char *name)
{
	return strcmp(name, PINNED_LIST) == 0 || strcmp(name, PINNED_LIST PINNED_STAGED) == 0;
}

bool owned_is_other_file(const struct pins *pins, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	return pins_path(pins, name, path) == 0 && stat(path, &st) == 0 &&
	       (!S_ISREG(st.st_mode) || !bpffs_mount_holds(path));
}

int owned_by_tproxy(const struct pins *pins, const char *name)
{
	const struct hook *program = hook_of_program(name), *link = hook_of_link(name);
	const struct pinned_map *map = pinned_map_of_pin(name);
	int index;
	const bool list = is_list(name), xdp = xdp_link_parse(name, &index) == 0;
	char path[PATH_MAX], program_name[PINS_LINK_LEN] = PINNED_LIST_PROGRAM;
	_cleanup_close_ int fd = -1;

	if ((!map && !program && !link && !list && !xdp) || pins_path(pins, name, path) < 0)
		return 0;
	fd = bpf_obj_get(path);
	if (fd < 0 && is_shortage(errno))
		return -errno;
	if (fd < 0)
		return errno == EACCES || errno == EPERM || errno == EROFS;
	if (map)
		return is_our_map(fd, map->name);
	if (list)
		return is_our_link(fd, BPF_LINK_TYPE_ITER, program_name);
	if (xdp)
		return is_our_link(fd, BPF_LINK_TYPE_XDP, "tproxy_xdp");
	snprintf(program_name, sizeof(program_name), "tproxy_%s", (program ? program : link)->name);
	if (program)
		return is_our_program(fd, program_name);
	return is_our_link(fd, BPF_LINK_TYPE_CGROUP, program_name);
}
