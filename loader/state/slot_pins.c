// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See slot_pins.h. */
#include "slot_pins.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bpffs.h"
#include "inner_maps.h"
#include "log.h"
#include "pins.h"
#include "util.h"

static int log_error(const struct pins *pins, const char *what, enum pinned_map_id id, int r)
{
	log_err("cannot %s '%s/%s': %s", what, pins->path, pinned_maps[id].name, strerror(-r));
	return r;
}

/* Writes the second name, under which a pin is staged before it is renamed. */
static void staged_name(enum pinned_map_id id, char name[PINS_LINK_LEN])
{
	snprintf(name, PINS_LINK_LEN, "%s" PINNED_STAGED, pinned_maps[id].name);
}

int slot_pins_pin_as(const struct pins *pins, const char *name, enum pinned_map_id id, int fd)
{
	char path[PATH_MAX];
	struct stat st;
	int r;

	r = pins_remove(pins, name);
	if (r < 0)
		return r;
	r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	if (bpf_obj_pin(fd, path) < 0 || fstat(pins->fd, &st) < 0)
		return log_error(pins, "pin", id, -errno);
	return pins_set_access(pins, name, st.st_gid, pinned_maps[id].mode);
}

int slot_pins_stage(const struct pins *pins, enum pinned_map_id id, int fd)
{
	char name[PINS_LINK_LEN];

	staged_name(id, name);
	return slot_pins_pin_as(pins, name, id, fd);
}

int slot_pins_rename(const struct pins *pins, enum pinned_map_id id)
{
	char name[PINS_LINK_LEN];

	staged_name(id, name);
	if (renameat(pins->fd, name, pins->fd, pinned_maps[id].name) < 0)
		return log_error(pins, "rename the new pin of", id, -errno);
	return 0;
}

void slot_pins_remove_staged(const struct pins *pins, enum pinned_map_id id)
{
	char name[PINS_LINK_LEN];

	staged_name(id, name);
	pins_remove(pins, name);
}

/* A map that is opened for reading may be on a file system that is mounted read-only. */
static int open_name(const struct pins *pins, const char *name, bool writable, int *ret_fd)
{
	LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = writable ? 0 : BPF_F_RDONLY);
	char path[PATH_MAX];
	int fd, r;

	r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	fd = bpf_obj_get_opts(path, &opts);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int slot_pins_open_name(const struct pins *pins, const char *name, int *ret_fd)
{
	return open_name(pins, name, /* writable= */ true, ret_fd);
}

/* Opens a pin if it is that of the map with this id. Returns -ENOENT if it is not. */
static int open_pin_of(const struct pins *pins, const char *name, uint32_t id, bool writable,
		       int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	uint32_t pinned;
	int r;

	r = open_name(pins, name, writable, &fd);
	if (r == 0)
		r = bpffs_map_id(fd, &pinned);
	if (r < 0)
		return r;
	if (pinned != id)
		return -ENOENT;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int slot_pins_open_used(const struct pins *pins, int outer_fd, uint32_t slot, enum pinned_map_id id,
			int *ret_fd)
{
	char staged[PINS_LINK_LEN];
	uint32_t map_id;
	int r;

	r = inner_map_id(outer_fd, slot, &map_id);
	if (r < 0)
		return r;
	r = open_pin_of(pins, pinned_maps[id].name, map_id, /* writable= */ true, ret_fd);
	if (r != -ENOENT)
		return r;
	staged_name(id, staged);
	r = open_pin_of(pins, staged, map_id, /* writable= */ true, ret_fd);
	if (r == 0)
		return slot_pins_rename(pins, id);
	r = inner_map_open(outer_fd, slot, ret_fd);
	if (r == 0)
		r = slot_pins_stage(pins, id, *ret_fd);
	return r < 0 ? r : slot_pins_rename(pins, id);
}

int slot_pins_open_read(const struct pins *pins, int outer_fd, uint32_t slot, enum pinned_map_id id,
			int *ret_fd)
{
	uint32_t map_id;
	int r;

	r = inner_map_id(outer_fd, slot, &map_id);
	if (r < 0)
		return r;
	r = open_pin_of(pins, pinned_maps[id].name, map_id, /* writable= */ false, ret_fd);
	return r == -ENOENT ? inner_map_open(outer_fd, slot, ret_fd) : r;
}
