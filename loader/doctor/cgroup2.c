// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: where cgroup2 is mounted, and whether sockets know their cgroup.
 *
 * On older kernels a socket held either its cgroup2 or the number of net_cls or net_prio (cgroup
 * version 1), not both. Once these controllers were used, all later sockets looked as if they were
 * in the root cgroup. This was fixed by 8520e224f547 ("bpf, cgroups: Fix cgroup v2 fallback on
 * v1/v2 mixed mode").
 *
 * So the kernel is asked, by sock_diag(7), for the cgroup of a new listening socket on loopback. It
 * must be the cgroup of this process. For a process in the root cgroup the two cases look the same,
 * so then only the use of net_cls and net_prio is reported.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fts.h>
#include <inttypes.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "doctor.h"
#include "host/cgroup.h"
#include "util.h"

/* How many directories of net_cls and net_prio are searched. */
#define V1_DIRS_MAX 10000

/* Returns the ids of the cgroup of this process and of the root of the hierarchy. */
static int own_cgroups(const char *root, uint64_t *ret_own, uint64_t *ret_root)
{
	struct cgroup own = CGROUP_NULL, top = CGROUP_NULL;
	int r;

	r = cgroup_open_of(0, &own);
	if (r == 0)
		r = cgroup_open(root, &top);
	if (r == 0) {
		*ret_own = own.id;
		*ret_root = top.id;
	}
	cgroup_close(&own);
	cgroup_close(&top);
	return r;
}

static int listen_somewhere(struct sockaddr_in *ret_addr)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(addr);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return -errno;
	*ret_addr = addr;
	return TAKE_FD(fd);
}

/* Finds the cgroup id in the answer about one socket. */
static int find_cgroup_id(const struct nlmsghdr *nlh, ssize_t len, uint64_t *ret_id)
{
	const struct inet_diag_msg *msg = NLMSG_DATA(nlh);
	const struct rtattr *attr = (const struct rtattr *)(msg + 1);
	int left;

	if (!NLMSG_OK(nlh, len) || nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    nlh->nlmsg_len < NLMSG_LENGTH(sizeof(*msg)))
		return -ENODATA;
	left = (int)(nlh->nlmsg_len - NLMSG_LENGTH(sizeof(*msg)));
	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (attr->rta_type != INET_DIAG_CGROUP_ID || RTA_PAYLOAD(attr) < sizeof(*ret_id))
			continue;
		memcpy(ret_id, RTA_DATA(attr), sizeof(*ret_id));
		return 0;
	}
	return -ENODATA;
}

/* Returns the id of the cgroup that a new socket of this process has, as its hooks see it. */
static int socket_cgroup(uint64_t *ret_id)
{
	struct {
		struct nlmsghdr nlh;
		struct inet_diag_req_v2 req;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request),
			 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			 .nlmsg_flags = NLM_F_REQUEST },
		.req = { .sdiag_family = AF_INET,
			 .sdiag_protocol = IPPROTO_TCP,
			 .idiag_states = 1 << TCP_LISTEN,
			 .id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } },
	};
	const struct timeval timeout = { .tv_sec = 2 };
	_cleanup_close_ int fd = -1, netlink = -1;
	union {
		struct nlmsghdr nlh;
		char bytes[4096];
	} answer;
	struct sockaddr_in addr = {};
	ssize_t n;

	fd = listen_somewhere(&addr);
	if (fd < 0)
		return fd;
	request.req.id.idiag_sport = addr.sin_port;
	request.req.id.idiag_src[0] = addr.sin_addr.s_addr;
	netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (netlink < 0 ||
	    setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    send(netlink, &request, sizeof(request), 0) < 0)
		return -errno;
	n = recv(netlink, &answer, sizeof(answer), 0);
	return n < 0 ? -errno : find_cgroup_id(&answer.nlh, n, ret_id);
}

/* Returns true if any line of a net_cls.classid or net_prio.ifpriomap has a number other than 0. */
static bool has_number(const char *path)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	bool found = false;
	char line[256];

	while (f && !found && fgets(line, sizeof(line), f)) {
		const char *number = strrchr(line, ' ');

		found = strtoul(number ? number : line, NULL, 10) != 0;
	}
	return found;
}

/* Searches a hierarchy of version 1. *ret_path is set to the first such file. */
static bool find_numbered(char *mount_point, char *ret_path, size_t size)
{
	static const char *const files[] = { "net_cls.classid", "net_prio.ifpriomap" };
	char *const paths[] = { mount_point, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	bool found = false;
	FTSENT *entry;
	size_t i;
	int n = 0;

	while (fts && !found && n < V1_DIRS_MAX && (entry = fts_read(fts))) {
		if (entry->fts_info != FTS_D)
			continue;
		n++;
		for (i = 0; i < ARRAY_SIZE(files) && !found; i++) {
			snprintf(ret_path, size, "%s/%s", entry->fts_path, files[i]);
			found = has_number(ret_path);
		}
	}
	if (fts)
		fts_close(fts);
	return found;
}

struct v1_use {
	bool bound;	 /* a controller is in a hierarchy of version 1, mounted or not */
	bool numbered;	 /* a number is set */
	char path[8192]; /* the file that has it */
};

static void find_v1_use(struct v1_use *use)
{
	_cleanup_fclose_ FILE *cgroups = fopen("/proc/cgroups", "re"), *mounts = NULL;
	_cleanup_free_ char *line = NULL;
	char mount_point[4096];
	size_t size = 0;

	*use = (struct v1_use){};
	while (cgroups && getline(&line, &size, cgroups) >= 0) {
		unsigned int hierarchy;

		if (sscanf(line, "net_cls %u", &hierarchy) == 1 ||
		    sscanf(line, "net_prio %u", &hierarchy) == 1)
			use->bound |= hierarchy != 0;
	}
	if (use->bound)
		mounts = fopen("/proc/self/mountinfo", "re");
	while (mounts && !use->numbered && getline(&line, &size, mounts) >= 0) {
		const char *type = strstr(line, " - cgroup ");

		if (type && (strstr(type, "net_cls") || strstr(type, "net_prio")) &&
		    sscanf(line, "%*s %*s %*s %*s %4095s", mount_point) == 1)
			use->numbered = find_numbered(mount_point, use->path, sizeof(use->path));
	}
}

static void check_sockets(struct doctor *d, const char *root)
{
	uint64_t own = 0, top = 0, seen = 0;
	struct v1_use use;
	bool can_tell;
	int r;

	r = own_cgroups(root, &own, &top);
	if (r == 0)
		r = socket_cgroup(&seen);
	can_tell = r == 0 && own != top; /* in the root, right and wrong look the same */
	find_v1_use(&use);
	if (r == 0 && seen != own) {
		doctor_add(d, DOCTOR_ERROR, "sockets",
			   "new sockets do not know their cgroup2 (%" PRIu64 " instead of %" PRIu64
			   "): net_cls or net_prio prevents it",
			   seen, own);
		doctor_fix(d, "boot with cgroup_no_v1=net_cls,net_prio");
		return;
	}
	if (can_tell)
		doctor_add(d, DOCTOR_OK, "sockets", "new sockets know their cgroup2");
	if (!use.bound) {
		doctor_add(d, DOCTOR_OK, "net_cls",
			   "net_cls and net_prio of cgroup version 1 are not in use");
	} else if (can_tell) {
		doctor_add(
			d, DOCTOR_INFO, "net_cls",
			"net_cls or net_prio of cgroup version 1 is in use%s%s; sockets know their cgroup2 nevertheless",
			use.numbered ? ": " : "", use.path);
	} else {
		doctor_add(
			d, use.numbered ? DOCTOR_WARNING : DOCTOR_INFO, "net_cls",
			"net_cls or net_prio of cgroup version 1 is %s%s; on older kernels this hides cgroup2 from sockets, which cannot be detected from the root cgroup",
			use.numbered ? "in use: " : "mounted", use.path);
		doctor_fix(d,
			   "run tproxyctl doctor in a cgroup: systemd-run --pipe tproxyctl doctor");
	}
}

void doctor_cgroup2(struct doctor *d)
{
	_cleanup_free_ char *root = NULL;
	int r;

	r = cgroup_root(&root);
	if (r < 0) {
		doctor_add(d, DOCTOR_ERROR, "cgroup2", "no cgroup2 file system is mounted");
		/* Not at /sys/fs/cgroup, which may hold the hierarchies of version 1. */
		doctor_fix(d, "mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2");
		return;
	}
	d->has_cgroup2 = true;
	if (strcmp(root, "/sys/fs/cgroup") == 0)
		doctor_add(d, DOCTOR_OK, "cgroup2", "is mounted at %s", root);
	else
		doctor_add(d, DOCTOR_INFO, "cgroup2",
			   "is mounted at %s (a hybrid host): --cgroup paths begin there", root);
	check_sockets(d, root);
}
