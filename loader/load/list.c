// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the pin of the list of connections, see list.h.
 *
 * A link of an iterator attaches to nothing: a process that opens its pin runs the program. The pin
 * gets its owner and mode under a second name and is then renamed, so no other user can open it
 * before that. A reader of the previous program goes on with that program.
 */
#include "list.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "created.h"
#include "log.h"
#include "objects.h"
#include "state/pins.h"
#include "util.h"

#define STAGED PINNED_LIST PINNED_STAGED

static struct bpf_program *program_of(const struct bpf_object *object)
{
	return bpf_object__find_program_by_name(object, PINNED_LIST_PROGRAM);
}

void list_leave_out(const struct bpf_object *object)
{
	bpf_program__set_autoload(program_of(object), false);
}

/* Makes the link and pins it under its second name. Returns 0 or -errno, not logged. */
static int pin_staged(const struct bpf_object *object, const struct pins *pins)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int r;

	r = pins_path(pins, STAGED, path);
	if (r < 0)
		return r;
	fd = bpf_link_create(bpf_program__fd(program_of(object)), 0, BPF_TRACE_ITER, NULL);
	return fd < 0 ? fd : bpf_obj_pin(fd, path);
}

int list_pin(const struct bpf_object *object, const struct pins *pins, gid_t gid,
	     struct created *created)
{
	const bool existed = pins_exists(pins, PINNED_LIST);
	int r;

	if (bpf_program__fd(program_of(object)) < 0)
		return pins_remove(pins, PINNED_LIST);
	r = pins_remove(pins, STAGED);
	if (r < 0)
		return r;
	r = pin_staged(object, pins);
	if (r < 0) {
		log_err("cannot pin '%s/" PINNED_LIST "': %s", pins->path, strerror(-r));
		return r;
	}
	r = pins_set_access(pins, STAGED, gid, PINNED_LIST_MODE);
	if (r == 0 && renameat(pins->fd, STAGED, pins->fd, PINNED_LIST) < 0) {
		r = -errno;
		log_err("cannot rename '%s/" STAGED "': %s", pins->path, strerror(-r));
	}
	if (r < 0)
		pins_remove(pins, STAGED);
	else if (!existed)
		created_add(created, PINNED_LIST);
	return r;
}

int list_set_access(const struct pins *pins, gid_t gid)
{
	if (!pins_exists(pins, PINNED_LIST))
		return 0;
	return pins_set_access(pins, PINNED_LIST, gid, PINNED_LIST_MODE);
}
