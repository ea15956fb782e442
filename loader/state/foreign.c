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
 * load/foreign_check.c refuses a load that would stop one. doctor/foreign_programs.c reports the
 * same.
 */
#include "foreign.h"

#include <bpf/libbpf.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>

#include "host/cgroup.h"
#include "host/cgroup_programs.h"
#include "objects.h"
#include "quote.h"
#include "util.h"

/*
 * Returns true if foreign programs are attached to the cgroup itself. They too keep those above
 * from running.
 */
static bool has_others(const struct cgroup_programs *here, __u32 own_prog_id)
{
	__u32 i;

	for (i = 0; i < here->n; i++) {
		if (here->id[i] != own_prog_id)
			return true;
	}
	return false;
}

int foreign_find(const struct cgroup *target, const struct hook *hook, __u32 own_prog_id,
		 struct foreign *ret_foreign)
{
	_cleanup_free_ char *root = NULL;
	struct cgroup_programs here;
	char path[PATH_MAX];
	int r;

	r = cgroup_root(&root);
	if (r == 0)
		r = cgroup_programs_query_at(target->path, hook->attach_type, 0, &here);
	if (r < 0 || has_others(&here, own_prog_id))
		return r;
	snprintf(path, sizeof(path), "%s", target->path);
	while (strlen(path) > strlen(root)) {
		dirname(path);
		r = cgroup_programs_query_at(path, hook->attach_type, 0, &here);
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
		cgroup_programs_name(here.id[0], ret_foreign->prog_name);
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
