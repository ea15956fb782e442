// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the rings in map_rings, see rings.h.
 *
 * A ring lives as long as map_rings, so a load that adopts the maps adopts the rings. map_rings is
 * the truth. A pin of a ring that is not in its slot is of a load that died, or of a map_rings that
 * is gone: nothing is written to that ring any more, and a new one takes its place. New rings are
 * pinned before they are put into their slots, so no run has to open a map by its id, which takes
 * CAP_SYS_ADMIN, unless a pin was removed.
 *
 * All new rings are put into their slots by one system call, because the kernel waits for running
 * programs after each (since Linux 6.8; earlier after each ring).
 */
#include "rings.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "bpffs.h"
#include "created.h"
#include "log.h"
#include "objects.h"
#include "state/inner_maps.h"
#include "state/pins.h"
#include "tproxy_abi.h"
#include "util.h"

struct rings {
	uint32_t slots[TPROXY_RINGS_MAX]; /* that get a new ring */
	int fds[TPROXY_RINGS_MAX];	  /* the new rings */
	size_t n;
};

static int log_error(const struct pins *pins, const char *what, const char *name, int r)
{
	log_err("cannot %s '%s/%s': %s%s", what, pins->path, name, strerror(-r),
		r == -EPERM ? "; this takes CAP_SYS_ADMIN" : "");
	return r;
}

/* A ring has to have whole pages. */
static uint32_t ring_size(void)
{
	const long page = sysconf(_SC_PAGESIZE);

	return page > TPROXY_RING_SIZE ? (uint32_t)page : TPROXY_RING_SIZE;
}

/* Reads the id of the map behind a pin. -ENOENT: there is none. */
static int read_pinned_id(const struct pins *pins, const char *name, uint32_t *ret_id)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int r;

	r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	fd = bpf_obj_get(path);
	return fd < 0 ? fd : bpffs_map_id(fd, ret_id);
}

/* Replaces a pin, if there is one. */
static int pin_ring(const struct pins *pins, uint32_t ring, int fd)
{
	char name[PINNED_RING_LEN], path[PATH_MAX];
	int r;

	pinned_ring_name(ring, name);
	r = pins_remove(pins, name);
	if (r == 0)
		r = pins_path(pins, name, path);
	if (r < 0)
		return r;
	return bpf_obj_pin(fd, path) < 0 ? log_error(pins, "pin", name, -errno) : 0;
}

/* Pins the ring in a slot, if the pin is not of that one. *ret_empty: the slot has no ring. */
static int adopt_ring(const struct pins *pins, int rings_fd, uint32_t ring, bool *ret_empty)
{
	_cleanup_close_ int fd = -1;
	uint32_t id, pinned_id;
	char name[PINNED_RING_LEN];
	int r;

	pinned_ring_name(ring, name);
	r = inner_map_id(rings_fd, ring, &id);
	*ret_empty = r == -ENOENT;
	if (r < 0)
		return r == -ENOENT ? 0 : log_error(pins, "read the slot of", name, r);
	r = read_pinned_id(pins, name, &pinned_id);
	if (r == 0 && pinned_id == id)
		return 0;
	if (r < 0 && r != -ENOENT)
		return log_error(pins, "open", name, r);
	r = inner_map_open(rings_fd, ring, &fd);
	return r < 0 ? log_error(pins, "open the map of", name, r) : pin_ring(pins, ring, fd);
}

/* Makes and pins a ring. */
static int create_ring(const struct pins *pins, uint32_t ring, struct rings *new,
		       struct created *created)
{
	const int fd =
		bpf_map_create(BPF_MAP_TYPE_RINGBUF, pinned_ring.name, 0, 0, ring_size(), NULL);
	char name[PINNED_RING_LEN];
	int r;

	if (fd < 0) {
		log_err("cannot make a ring of %u bytes: %s", ring_size(), strerror(-fd));
		return fd;
	}
	new->slots[new->n] = ring;
	new->fds[new->n++] = fd;
	r = pin_ring(pins, ring, fd);
	if (r < 0)
		return r;
	pinned_ring_name(ring, name);
	created_add(created, name);
	return 0;
}

static void rings_finish(struct rings *new)
{
	while (new->n > 0)
		close(new->fds[--new->n]);
}

int rings_make(const struct pins *pins, int rings_fd, struct created *created)
{
	_cleanup_(rings_finish) struct rings new = {};
	uint32_t ring;
	bool empty;
	int r = 0;

	for (ring = 0; ring < TPROXY_RINGS_MAX && r == 0; ring++) {
		r = adopt_ring(pins, rings_fd, ring, &empty);
		if (r == 0 && empty)
			r = create_ring(pins, ring, &new, created);
	}
	if (r < 0)
		return r;
	r = inner_map_fill(rings_fd, new.slots, new.fds, new.n);
	return r < 0 ? log_error(pins, "fill", pinned_maps[PINNED_RINGS].name, r) : 0;
}

int rings_set_access(const struct pins *pins, gid_t gid)
{
	char name[PINNED_RING_LEN];
	uint32_t ring;
	int r = 0;

	for (ring = 0; ring < TPROXY_RINGS_MAX && r == 0; ring++) {
		pinned_ring_name(ring, name);
		if (pins_exists(pins, name))
			r = pins_set_access(pins, name, gid, pinned_ring.mode);
	}
	return r;
}
