// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the BPF file system that holds the pin directory, whether there is one and
 * whether it is writable. tproxy-load mounts one at /sys/fs/bpf if necessary, and nowhere else. If
 * it is mounted read-only, nothing can be loaded, and links cannot be examined either, because the
 * kernel opens them for writing. Later checks then leave out the links (doctor.read_only). Whether
 * relays reach the directory is checked by pinned.c.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "doctor.h"
#include "host/bpffs_mount.h"
#include "quote.h"

/* No mount command: a mount would hide what is there now, such as all of /tmp. */
#define FIX_PLACE                                                                                  \
	"choose a pin directory below " BPFFS_MOUNT_DEFAULT ": --pin-dir " BPFFS_MOUNT_DEFAULT     \
	"/NAME"

/* Finds where the file system of @path is mounted, which is what a remount needs. */
static void mount_point(const char *path, char ret_point[PATH_MAX])
{
	char up[PATH_MAX];
	struct stat st, above;

	if (!realpath(path, up))
		snprintf(up, sizeof(up), "%s", path);
	do
		strcpy(ret_point, up);
	while (strcmp(up, "/") != 0 && stat(ret_point, &st) == 0 &&
	       stat(dirname(up), &above) == 0 && st.st_dev == above.st_dev);
}

static bool check_writable(struct doctor *d, const char *path)
{
	char point[PATH_MAX], quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	struct statvfs fs;

	if (statvfs(path, &fs) < 0 || !(fs.f_flag & ST_RDONLY))
		return true;
	d->read_only = true;
	mount_point(path, point);
	doctor_add(
		d, DOCTOR_ERROR, "bpffs",
		"the BPF file system at '%s' is mounted read-only: nothing can be loaded there, and links cannot be examined",
		point);
	doctor_fix(d, "mount -o remount,rw %s", shell_quote(point, quoted, sizeof(quoted)));
	return false;
}

void doctor_bpffs(struct doctor *d)
{
	char parent[PATH_MAX];
	struct stat st;

	if (bpffs_mount_parent(d->pin_dir, parent) < 0) {
		doctor_add(d, DOCTOR_ERROR, "bpffs", "'%s': %s", d->pin_dir,
			   strerror(ENAMETOOLONG));
		doctor_fix(d, FIX_PLACE);
		return;
	}
	if (stat(parent, &st) < 0) {
		doctor_add(d, DOCTOR_ERROR, "bpffs", "'%s': %s", parent, strerror(errno));
		doctor_fix(d, FIX_PLACE);
		return;
	}
	/* A bpffs may be mounted at the pin directory itself. */
	if (bpffs_mount_holds(d->pin_dir) && !check_writable(d, d->pin_dir))
		return;
	if (bpffs_mount_holds(parent) && !check_writable(d, parent))
		return;
	if (bpffs_mount_holds(parent)) {
		doctor_add(d, DOCTOR_OK, "bpffs", "a BPF file system is at '%s', mode %04o", parent,
			   st.st_mode & 07777);
		return;
	}
	/* tproxy-load mounts it at its usual place only. */
	if (strcmp(parent, BPFFS_MOUNT_DEFAULT) == 0) {
		doctor_add(d, DOCTOR_INFO, "bpffs",
			   "no BPF file system is mounted at '%s'; tproxy-load will mount it",
			   parent);
		doctor_fix(d, "mount -t bpf bpf " BPFFS_MOUNT_DEFAULT);
	} else {
		doctor_add(d, DOCTOR_ERROR, "bpffs", "'%s' is not in a BPF file system", parent);
		doctor_fix(d, FIX_PLACE);
	}
}
