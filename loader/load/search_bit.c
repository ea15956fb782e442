// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the search bit for others on the parent of the pin directory, see search_bit.h. The
 * parent is the root of the BPF file system, unless --pin-dir names a directory further below.
 *
 * If the parent is closed to others, its search bit is set. The policy of one pin directory
 * (opened_bpffs) records that the bit has to be cleared. It records that before the bit is set, so
 * --unload clears the bit even if the loader died in between. On unload this duty passes to another
 * pin directory that needs the bit. The bit is cleared when there is none.
 */
#include "search_bit.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bpffs.h"
#include "host/bpffs_mount.h"
#include "log.h"
#include "state/pins.h"
#include "state/policy.h"
#include "tproxy_abi.h"
#include "util.h"

bool search_bit_is_missing(const struct pins *pins)
{
	char parent[PATH_MAX];
	struct stat st;

	return bpffs_mount_parent(pins->path, parent) == 0 && bpffs_mount_holds(parent) &&
	       stat(parent, &st) == 0 && !(st.st_mode & S_IXOTH);
}

int search_bit_set(const struct pins *pins)
{
	char parent[PATH_MAX];
	struct stat st;
	int r;

	r = bpffs_mount_parent(pins->path, parent);
	if (r == 0 && (stat(parent, &st) < 0 || chmod(parent, (st.st_mode & 07777) | S_IXOTH) < 0))
		r = -errno;
	if (r < 0)
		log_err("cannot set the search bit for others on the parent of '%s': %s",
			pins->path, strerror(-r));
	else
		log_debug("set the search bit for others on '%s', so that relays reach '%s'",
			  parent, pins->path);
	return r;
}

/*
 * Returns true if @name is another pin directory beside this one whose group needs the search bit.
 * Its policy then says that it has to clear the bit when it is unloaded. A directory with another
 * layout of map_policy cannot be given that duty, and is ignored.
 */
static bool hand_over(const char *parent, const char *name)
{
	struct tproxy_policy policy;
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	struct stat st;

	if (snprintf(path, sizeof(path), "%s/%s", parent, name) >= (int)sizeof(path) ||
	    lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || !(st.st_mode & S_IXGRP) || !st.st_gid)
		return false;
	if (bpffs_open_map(path, PINNED_POLICY, /* writable= */ true, &fd) < 0 ||
	    policy_read(fd, &policy) < 0)
		return false;
	policy.opened_bpffs = 1;
	return policy_write(fd, &policy) == 0;
}

/* Returns true if another pin directory needs the search bit, and has taken over clearing it. */
static bool is_needed(const struct pins *pins, const char *parent)
{
	_cleanup_closedir_ DIR *dir = opendir(parent);
	const char *own = strrchr(pins->path, '/') + 1;
	struct dirent *entry;

	/* Unknown: a search bit that stays does less harm than relays that cannot reach their pins.
	 */
	if (!dir)
		return true;
	while ((entry = readdir(dir))) {
		if (*entry->d_name != '.' && strcmp(entry->d_name, own) != 0 &&
		    hand_over(parent, entry->d_name))
			return true;
	}
	return false;
}

void search_bit_clear(const struct pins *pins)
{
	char parent[PATH_MAX];
	struct stat st;

	if (bpffs_mount_parent(pins->path, parent) < 0 || !bpffs_mount_holds(parent) ||
	    stat(parent, &st) < 0)
		return;
	if (is_needed(pins, parent))
		log_debug(
			"left the search bit for others on '%s', which another pin directory needs",
			parent);
	else if (chmod(parent, st.st_mode & 07777 & ~S_IXOTH) < 0)
		log_warning("cannot clear the search bit for others on '%s': %s, ignoring", parent,
			    strerror(errno));
}
