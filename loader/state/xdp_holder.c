// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl. See xdp_holder.h.
 *
 * A program is attached by a link, which a pin or a descriptor holds, or by netlink, which nothing
 * has to hold. The kernel tells which links exist, and /proc which processes have them open.
 */
#include "xdp_holder.h"

#include <bpf/bpf.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "escape.h"
#include "host/interface.h"
#include "log.h"
#include "quote.h"
#include "util.h"

struct holder {
	char program[ESCAPE_LEN(BPF_OBJ_NAME_LEN)]; /* or empty: it may not be opened */
	bool looked;				    /* links could be listed */
	__u32 link_id;				    /* 0: attached by netlink */
	int pid;				    /* 0: no process has the link open */
	char comm[ESCAPE_LEN(16)];
};

static void read_program(__u32 prog_id, struct holder *holder)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(prog_id);

	if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
		escape_text(info.name, strnlen(info.name, sizeof(info.name)), holder->program,
			    sizeof(holder->program));
}

static void find_link(const struct interface *interface, struct holder *holder)
{
	__u32 id = 0;
	int r;

	while ((r = bpf_link_get_next_id(id, &id)) == 0) {
		_cleanup_close_ int fd = bpf_link_get_fd_by_id(id);
		struct bpf_link_info info = {};
		__u32 len = sizeof(info);

		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) < 0 ||
		    info.type != BPF_LINK_TYPE_XDP || info.prog_id != interface->prog_id ||
		    info.xdp.ifindex != (__u32)interface->index)
			continue;
		holder->link_id = id;
		break;
	}
	holder->looked = r == 0 || r == -ENOENT;
}

/* Returns true if the process has the link open. */
static bool has_link(const char *pid, __u32 link_id)
{
	char path[600], line[128], wanted[32];
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%s/fdinfo", pid);
	snprintf(wanted, sizeof(wanted), "link_id:\t%u\n", link_id);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		_cleanup_fclose_ FILE *file = NULL;

		snprintf(path, sizeof(path), "/proc/%s/fdinfo/%s", pid, entry->d_name);
		if (!isdigit((unsigned char)entry->d_name[0]) || !(file = fopen(path, "re")))
			continue;
		while (!found && fgets(line, sizeof(line), file))
			found = strcmp(line, wanted) == 0;
	}
	return found;
}

static void read_comm(struct holder *holder)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[64], comm[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/comm", holder->pid);
	file = fopen(path, "re");
	if (file && fgets(comm, sizeof(comm), file))
		comm[strcspn(comm, "\n")] = '\0';
	escape_text(comm, strlen(comm), holder->comm, sizeof(holder->comm));
}

static void find_process(struct holder *holder)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && holder->link_id && !holder->pid && (entry = readdir(dir))) {
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    has_link(entry->d_name, holder->link_id))
			holder->pid = atoi(entry->d_name);
	}
	if (holder->pid)
		read_comm(holder);
}

static struct holder find(const struct interface *interface)
{
	struct holder holder = {};

	read_program(interface->prog_id, &holder);
	find_link(interface, &holder);
	find_process(&holder);
	return holder;
}

char *xdp_holder_describe(const struct interface *interface, char buf[XDP_HOLDER_LEN])
{
	const struct holder holder = find(interface);
	char how[128] = "";

	if (holder.pid)
		snprintf(how, sizeof(how), ", attached by link %u of process %d (%s)",
			 holder.link_id, holder.pid, holder.comm);
	else if (holder.link_id)
		snprintf(how, sizeof(how), ", attached by link %u, which is pinned",
			 holder.link_id);
	else if (holder.looked)
		snprintf(how, sizeof(how), ", attached by netlink");
	if (*holder.program)
		snprintf(buf, XDP_HOLDER_LEN, "the XDP program '%s' (id %u, %s)%s", holder.program,
			 interface->prog_id, interface_xdp_name(interface->xdp), how);
	else
		snprintf(buf, XDP_HOLDER_LEN, "the XDP program %u (%s)%s", interface->prog_id,
			 interface_xdp_name(interface->xdp), how);
	return buf;
}

char *xdp_holder_fix(const struct interface *interface, char buf[XDP_HOLDER_LEN])
{
	const struct holder holder = find(interface);
	char quoted[SHELL_QUOTE_LEN(IFNAMSIZ)];

	if (holder.pid)
		snprintf(buf, XDP_HOLDER_LEN, "end process %d (%s)", holder.pid, holder.comm);
	else if (holder.link_id)
		snprintf(buf, XDP_HOLDER_LEN, "bpftool link detach id %u", holder.link_id);
	else
		snprintf(buf, XDP_HOLDER_LEN, "ip link set dev %s %s off",
			 shell_quote(interface->name, quoted, sizeof(quoted)),
			 interface->xdp == INTERFACE_XDP_GENERIC  ? "xdpgeneric"
			 : interface->xdp == INTERFACE_XDP_NATIVE ? "xdpdrv"
								  : "xdp");
	return buf;
}

void xdp_holder_log(const char *name, const struct interface *interface)
{
	char text[XDP_HOLDER_LEN], fix[XDP_HOLDER_LEN];

	log_err("the interface '%s' has %s, which tproxy-load does not replace; remove it (%s), or leave out --xdp %s",
		name, xdp_holder_describe(interface, text), xdp_holder_fix(interface, fix), name);
}
