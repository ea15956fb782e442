/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pin directory: found or created, locked, listed, removed. A process that adds or removes pins
 * holds the lock, flock(2) on the directory, so that two loaders never work on it at a time.
 */
#ifndef TPROXY_STATE_PINS_H
#define TPROXY_STATE_PINS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "quote.h"

struct pins {
	/* after pins_open() this is real; otherwise the path is the caller's */
	const char *path;
	/* absolute and without symbolic links; owned, set by pins_open() only */
	char *real;
	int fd;	      /* of the locked directory; -1: not open */
	bool created; /* the directory was created by pins_open() */
};

#define PINS_NULL                                                                                  \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/*
 * Modes of the directory. The group may search but not read it: a process that can open the
 * directory can hold its lock.
 */
#define PINS_DIR_MODE_ROOT  0700
#define PINS_DIR_MODE_GROUP 0710

/*
 * Functions here log an error in one line, and return 0 or -errno unless stated otherwise.
 *
 * pins_open() opens and locks the pin directory. With @create it creates a missing one, and mounts
 * a BPF file system if the parent is /sys/fs/bpf. It waits up to 30 s for another loader. A
 * symbolic link is followed. The root of a mounted file system is refused, because it holds the
 * pins of others. Returns -ENOENT, not logged, if the directory does not exist and @create is
 * false. The caller calls pins_close().
 */
int pins_open(const char *path, bool create, struct pins *ret_pins);
/*
 * Checks that pins_open() could create or use this directory. Changes nothing. Returns 0 also if
 * the caller may not search there.
 */
int pins_check(const char *path);
/* Releases the lock and frees. PINS_NULL is accepted. */
void pins_close(struct pins *pins);

/*
 * Calls @fn for each name, in no particular order, until it returns nonzero, and returns that
 * value. @fn may remove the name that it was called with. Only pins->path has to be set.
 */
int pins_for_each(struct pins *pins, int (*fn)(struct pins *pins, const char *name, void *data),
		  void *data);

/* Writes the path of a pin. Returns 0 or -ENAMETOOLONG, logged. */
int pins_path(const struct pins *pins, const char *name, char ret_path[PATH_MAX]);
/* Returns true if there is a pin of that name. */
bool pins_exists(const struct pins *pins, const char *name);

/*
 * The name of a link is link_NAME_<cgroup id in hexadecimal>. pins_parse_link() returns -EINVAL,
 * not logged, for any other name.
 */
#define PINS_LINK_LEN 64
void pins_format_link(const char *hook, uint64_t cgroup_id, char buf[PINS_LINK_LEN]);
int pins_parse_link(const char *name, char ret_hook[PINS_LINK_LEN], uint64_t *ret_cgroup_id);

/*
 * Writes the command that attaches again with the options of the last load. It names the pin
 * directory unless that is the default. Returns buf.
 */
#define PINS_AGAIN_LEN (SHELL_QUOTE_LEN(PATH_MAX) + 64)
char *pins_format_again(const char *pin_dir, char buf[PINS_AGAIN_LEN]);

/* Writes the option of a command that names the pin directory, " -p DIR", or "" for the default. */
#define PINS_OPTION_LEN (SHELL_QUOTE_LEN(PATH_MAX) + 8)
char *pins_format_option(const char *pin_dir, char buf[PINS_OPTION_LEN]);

/* Sets owner root:@gid and @mode of a pin. */
int pins_set_access(const struct pins *pins, const char *name, gid_t gid, mode_t mode);

/* Sets owner root:@gid of the directory, and its mode: PINS_DIR_MODE_ROOT for group 0. */
int pins_open_to_group(const struct pins *pins, gid_t gid);

/* Removes a pin. Returns 0 also if it does not exist. */
int pins_remove(const struct pins *pins, const char *name);
/* Removes the directory, which must be empty. */
int pins_remove_dir(struct pins *pins);

#endif
