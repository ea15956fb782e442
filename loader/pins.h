/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pin directory: found or made, locked, listed, removed. Whoever changes anything in it holds
 * its lock (flock(2) on the directory), so two loaders do not work on it at a time.
 */
#ifndef TPROXY_LOADER_PINS_H
#define TPROXY_LOADER_PINS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pins {
	const char
		*path; /* not owned; of pins_open() without symbolic links, and then this is it: */
	char *real;
	int fd;	      /* of the directory, locked */
	bool created; /* by this run */
};

#define PINS_NULL                                                                                  \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* Of the directory. No right for the group to read it: who can open it can hold its lock. */
#define PINS_DIR_MODE_ROOT  0700
#define PINS_DIR_MODE_GROUP 0710

/*
 * All of these log what is wrong, in one line, and return 0 or -errno.
 * pins_open: -ENOENT, and then not logged, if the directory is not there and create is false. A
 * symbolic link is followed; where a file system is mounted is refused, for it is shared.
 */
int pins_open(const char *path, bool create, struct pins *ret_pins);
/*
 * Could pins_open() make or take this directory? Changes nothing. Who may not look there is told 0.
 */
int pins_check(const char *path);
void pins_close(struct pins *pins);

/*
 * Calls fn for each name, in no order, until it returns other than 0, which is returned then.
 * fn may remove the name that it was called with.
 */
int pins_for_each(struct pins *pins, int (*fn)(struct pins *pins, const char *name, void *data),
		  void *data);

/*
 * Is it a name that we pin, a map, a program, a link of this version, and is that what is pinned
 * there, with the name that the kernel has for ours? What we may not look at is known by its name
 * alone: root may.
 */
bool pins_is_ours(const struct pins *pins, const char *name);

/* The path of a pin; -ENAMETOOLONG. */
int pins_path(const struct pins *pins, const char *name, char ret_path[PATH_MAX]);
bool pins_exists(const struct pins *pins, const char *name);

/* link_NAME_<id>, and back; -EINVAL: not the name of a link. */
#define PINS_LINK_LEN 64
void pins_format_link(const char *hook, uint64_t cgroup_id, char buf[PINS_LINK_LEN]);
int pins_parse_link(const char *name, char ret_hook[PINS_LINK_LEN], uint64_t *ret_cgroup_id);

/* Owner root:gid and the given mode. */
int pins_set_access(const struct pins *pins, const char *name, gid_t gid, mode_t mode);

/* Owner and mode of the directory itself. */
int pins_open_to_group(const struct pins *pins, gid_t gid);

/*
 * A bpffs that is mounted 0700, as systemd does it, keeps the relay's group from the directory. To
 * open it sets the search bit for others on the mount's root, and nothing else.
 */
bool pins_bpffs_is_closed(const struct pins *pins);
int pins_open_bpffs(const struct pins *pins);
/*
 * Takes that bit back, but for another pin directory that needs it, which does so then. Logs, and
 * is otherwise lenient about, a failure.
 */
void pins_close_bpffs(const struct pins *pins);

/* Removes a pin; one that is not there is no error. */
int pins_remove(const struct pins *pins, const char *name);
/* Removes the directory, which must be empty. */
int pins_remove_dir(struct pins *pins);

#endif
