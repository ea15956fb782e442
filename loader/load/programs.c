// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the pins of the programs, see programs.h.
 *
 * Each hook has one program, pinned as prog_NAME. A load over an earlier one replaces that pin: it
 * pins the new program as prog_NAME_new and renames it. A loader that dies in between leaves
 * prog_NAME_new, which the next run removes. Links hold their program themselves (links.c).
 */
#include "programs.h"

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

/* Returns true if kernel lockdown denies programs to read kernel memory. */
static bool is_confidential(void)
{
	_cleanup_fclose_ FILE *f = fopen("/sys/kernel/security/lockdown", "re");
	char line[128] = "";

	return f && fgets(line, sizeof(line), f) && strstr(line, "[confidentiality]");
}

void programs_log_rejected(int r, const char *advice)
{
	if (is_confidential())
		advice =
			"; kernel lockdown is 'confidentiality', under which no program can read the names of cgroups: boot with lockdown=integrity";
	log_err("the kernel rejected the BPF programs: %s%s", strerror(-r), advice);
}

struct bpf_program *programs_find(const struct bpf_object *object, const struct hook *hook)
{
	char name[PINS_LINK_LEN];

	snprintf(name, sizeof(name), "tproxy_%s", hook->name);
	return bpf_object__find_program_by_name(object, name);
}

static void name_of(const struct hook *hook, char name[PINS_LINK_LEN])
{
	snprintf(name, PINS_LINK_LEN, "prog_%s", hook->name);
}

static int set_access(const struct pins *pins, const char *name, const struct hook *hook, gid_t gid)
{
	return hook->opened ? pins_set_access(pins, name, gid, PINNED_OPENED_MODE)
			    : pins_set_access(pins, name, 0, PINNED_HOOK_MODE);
}

/* Pins under a temporary name and renames it, so that the pin exists at every moment. */
static int pin_program(const struct bpf_object *object, const struct hook *hook,
		       const struct pins *pins, gid_t gid, struct created *created)
{
	char name[PINS_LINK_LEN], staged[PINS_LINK_LEN], path[PATH_MAX];
	bool existed;
	int r;

	name_of(hook, name);
	snprintf(staged, sizeof(staged), "prog_%s" PINNED_STAGED, hook->name);
	existed = pins_exists(pins, name);
	r = pins_remove(pins, staged);
	if (r < 0)
		return r;
	r = pins_path(pins, staged, path);
	if (r < 0)
		return r;
	r = bpf_program__pin(programs_find(object, hook), path);
	if (r < 0) {
		log_err("cannot pin '%s/%s': %s", pins->path, name, strerror(-r));
		return r;
	}
	r = set_access(pins, staged, hook, gid);
	if (r == 0 && renameat(pins->fd, staged, pins->fd, name) < 0) {
		r = -errno;
		log_err("cannot rename '%s/%s': %s", pins->path, staged, strerror(-r));
	}
	if (r < 0)
		pins_remove(pins, staged);
	else if (!existed)
		created_add(created, name);
	return r;
}

int programs_set_access(const struct pins *pins, gid_t gid)
{
	char name[PINS_LINK_LEN];
	size_t i;
	int r = 0;

	for (i = 0; i < _HOOK_MAX && r == 0; i++) {
		name_of(&hooks[i], name);
		if (hooks[i].opened && pins_exists(pins, name))
			r = set_access(pins, name, &hooks[i], gid);
	}
	return r;
}

int programs_pin(const struct bpf_object *object, const struct pins *pins, gid_t gid,
		 struct created *created)
{
	size_t i;
	int r;

	for (i = 0; i < _HOOK_MAX; i++) {
		r = pin_program(object, &hooks[i], pins, gid, created);
		if (r < 0)
			return r;
	}
	return 0;
}
