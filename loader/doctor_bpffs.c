// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the BPF file system that holds the pin directory, and the way of a relay to it.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "doctor.h"

#define USUAL_PLACE "/sys/fs/bpf"
/* Not a mount command: it would hide what else is at that place, as all of /tmp. */
#define MEND_PLACE "choose a pin directory below " USUAL_PLACE ": --pin-dir " USUAL_PLACE "/NAME"

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

void doctor_bpffs(struct doctor *d)
{
	char copy[PATH_MAX], *parent;
	struct stat st;

	snprintf(copy, sizeof(copy), "%s", d->pin_dir);
	parent = dirname(copy);
	if (stat(parent, &st) < 0) {
		doctor_add(d, DOCTOR_ERROR, "bpffs", "'%s': %s", parent, strerror(errno));
		doctor_mend(d, MEND_PLACE);
		return;
	}
	if (is_bpffs(parent)) {
		doctor_add(d, DOCTOR_OK, "bpffs", "a BPF file system is at '%s', mode %04o", parent,
			   st.st_mode & 07777);
		return;
	}
	/* tproxy-load mounts it at its usual place only. */
	if (strcmp(parent, USUAL_PLACE) == 0) {
		doctor_add(d, DOCTOR_INFO, "bpffs",
			   "no BPF file system is mounted at '%s'; tproxy-load will mount it",
			   parent);
		doctor_mend(d, "mount -t bpf bpf " USUAL_PLACE);
	} else {
		doctor_add(d, DOCTOR_ERROR, "bpffs", "'%s' is not in a BPF file system", parent);
		doctor_mend(d, MEND_PLACE);
	}
}
