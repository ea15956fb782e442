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

/* Pins under a temporary name and renames it, so that the pin exists at every moment. */
static int pin_program(const struct bpf_object *object, const struct hook *hook,
		       const struct pins *pins, struct created *created)
{
	char name[PINS_LINK_LEN], staged[PINS_LINK_LEN], path[PATH_MAX];
	bool existed;
	int r;

	snprintf(name, sizeof(name), "prog_%s", hook->name);
	snprintf(staged, sizeof(staged), "prog_%s_new", hook->name);
	existed = pins_exists(pins, name);
	r = pins_remove(pins, staged);
	if (r < 0)
		return r;
	r = pins_path(pins, staged, path);
	if (r < 0)
		return r;
	r = bpf_program__pin(programs_find(object, hook), path);
	if (r == 0 && renameat(pins->fd, staged, pins->fd, name) < 0)
		r = -errno;
	if (r < 0) {
		log_err("cannot pin '%s/%s': %s", pins->path, name, strerror(-r));
		pins_remove(pins, staged);
		return r;
	}
	if (!existed)
		created_add(created, name);
	return pins_set_access(pins, name, 0, PINNED_HOOK_MODE);
}

int programs_pin(const struct bpf_object *object, const struct pins *pins, struct created *created)
{
	size_t i;
	int r;

	for (i = 0; i < _HOOK_MAX; i++) {
		r = pin_program(object, &hooks[i], pins, created);
		if (r < 0)
			return r;
	}
	return 0;
}
