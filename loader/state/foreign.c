// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl doctor: foreign programs that tproxy's would stop, see foreign.h.
 *
 * The rule is in kernel/bpf/cgroup.c, compute_effective_progs(). The kernel walks from a cgroup up
 * to the root and takes all programs that were attached with BPF_F_ALLOW_MULTI. Programs of a
 * cgroup without that flag are taken only if nothing was taken below it.
 *
 * The programs of tproxy are attached with BPF_F_ALLOW_MULTI, so foreign programs below them never
 * keep them from running. Only those above can be lost. foreign_find() walks up from a target to
 * the nearest cgroup with programs. If these have the flag, they run beside tproxy's; otherwise
 * they stop.
 *
 * load/foreign_check.c refuses a load that would stop one. doctor/attached.c reports the same.
 */
#include "foreign.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "objects.h"
#include "quote.h"
#include "util.h"

/* The most programs that the kernel attaches to one hook of a cgroup. */
#define PROGRAMS_MAX 64

struct attached {
	__u32 id[PROGRAMS_MAX];
	__u32 n;
	__u32 flags;
};

/* Reads what is attached to this cgroup itself. */
static int query(const char *path, const struct hook *hook, struct attached *ret)
{
	LIBBPF_OPTS(bpf_prog_query_opts, opts, .prog_ids = ret->id, .prog_cnt = PROGRAMS_MAX);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = bpf_prog_query_opts(fd, hook->attach_type, &opts);
	if (r < 0)
		return r;
	ret->n = opts.prog_cnt;
	ret->flags = opts.attach_flags;
	return 0;
}

/*
 * Returns true if foreign programs are attached to the cgroup itself. They too keep those above
 * from running.
 */
static bool has_others(const struct attached *here, __u32 own_prog_id)
{
	__u32 i;

	for (i = 0; i < here->n && i < PROGRAMS_MAX; i++) {
		if (here->id[i] != own_prog_id)
			return true;
	}
	return false;
}

/* Opening a program by its id takes CAP_SYS_ADMIN. */
static void read_name(struct foreign *foreign)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(foreign->prog_id);

	if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
		memcpy(foreign->prog_name, info.name, sizeof(foreign->prog_name));
}

int foreign_find(const struct cgroup *target, const struct hook *hook, __u32 own_prog_id,
		 struct foreign *ret_foreign)
{
	_cleanup_free_ char *root = NULL;
	struct attached here = {};
	char path[PATH_MAX];
	int r;

	r = cgroup_root(&root);
	if (r == 0)
		r = query(target->path, hook, &here);
	if (r < 0 || has_others(&here, own_prog_id))
		return r;
	snprintf(path, sizeof(path), "%s", target->path);
	while (strlen(path) > strlen(root)) {
		dirname(path);
		r = query(path, hook, &here);
		if (r < 0)
			return r;
		if (here.n == 0)
			continue;
		if (here.flags & BPF_F_ALLOW_MULTI)
			return 0; /* runs beside ours, and already stops those above it */
		if (!own_prog_id && !(here.flags & BPF_F_ALLOW_OVERRIDE))
			return 0; /* the kernel refuses to attach ours */
		*ret_foreign = (struct foreign){ .prog_id = here.id[0], .hook = hook };
		snprintf(ret_foreign->cgroup, sizeof(ret_foreign->cgroup), "%s", path);
		read_name(ret_foreign);
		return 1;
	}
	return 0;
}

void foreign_describe(const struct foreign *f, const struct cgroup *target, bool attached,
		      char text[FOREIGN_TEXT_LEN])
{
	snprintf(
		text, FOREIGN_TEXT_LEN,
		"program %u%s%.*s%s, on %s at '%s', %s for '%s', because it was attached without BPF_F_ALLOW_MULTI",
		f->prog_id, *f->prog_name ? ", '" : "", BPF_OBJ_NAME_LEN, f->prog_name,
		*f->prog_name ? "'" : "", f->hook->name, f->cgroup,
		attached ? "does not run" : "would stop running", target->path);
}

/* The command pins the program first: detaching could free one that has no pin. */
void foreign_fix(const struct foreign *f, char text[FOREIGN_FIX_LEN])
{
	const char *type = libbpf_bpf_attach_type_str(f->hook->attach_type);
	char cgroup[SHELL_QUOTE_LEN(PATH_MAX)];
	const __u32 id = f->prog_id;

	shell_quote(f->cgroup, cgroup, sizeof(cgroup));
	snprintf(text, FOREIGN_FIX_LEN,
		 "bpftool prog pin id %u /sys/fs/bpf/prog_%u && "
		 "bpftool cgroup detach %s %s id %u && "
		 "bpftool cgroup attach %s %s id %u multi",
		 id, id, cgroup, type, id, cgroup, type, id);
}
