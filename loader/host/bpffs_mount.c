// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the BPF file system, see bpffs_mount.h.
 *
 * The parent of a pin directory must be in a BPF file system. If none is mounted at /sys/fs/bpf,
 * tproxy-load mounts one there, with systemd's mode 0700. It mounts nowhere else, because a mount
 * hides what the directory contains.
 */
#include "bpffs_mount.h"

#include <errno.h>
#include <libgen.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "log.h"

int bpffs_mount_parent(const char *path, char ret_parent[PATH_MAX])
{
	char copy[PATH_MAX];

	if (strlen(path) >= sizeof(copy))
		return -ENAMETOOLONG;
	strcpy(copy, path);
	strcpy(ret_parent, dirname(copy));
	return 0;
}

bool bpffs_mount_holds(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

int bpffs_mount_find(const char *path, char ret_parent[PATH_MAX])
{
	int r;

	r = bpffs_mount_parent(path, ret_parent);
	if (r < 0) {
		log_err("pin directory '%s': %s", path, strerror(-r));
		return r;
	}
	if (bpffs_mount_holds(ret_parent))
		return 0;
	if (strcmp(ret_parent, BPFFS_MOUNT_DEFAULT) == 0)
		return 1;
	log_err("pin directory '%s': '%s' is not in a BPF file system; choose a directory below " BPFFS_MOUNT_DEFAULT,
		path, ret_parent);
	return -EMEDIUMTYPE;
}

int bpffs_mount_need(const char *path)
{
	char parent[PATH_MAX];
	int r;

	r = bpffs_mount_find(path, parent);
	if (r <= 0)
		return r;
	if (mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0) {
		r = -errno;
		log_err("cannot mount a BPF file system at '%s': %s", parent, strerror(-r));
		return r;
	}
	log_info("mounted a BPF file system at '%s'", parent);
	return 0;
}
