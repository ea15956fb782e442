// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl explain. See caller.h. */
#include "caller.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/namespaces.h"
#include "host/process.h"
#include "log.h"
#include "options.h"
#include "util.h"

/* Logs that something about the process cannot be read. Returns @r. */
static int log_error(const char *what, pid_t pid, int r)
{
	const char *remedy =
		geteuid() ? "run this as root" : "this requires CAP_SYS_PTRACE and CAP_SYS_ADMIN";
	const bool denied = r == -EACCES || r == -EPERM;

	/* A process that has ended has no namespaces any more, but its other threads have. */
	if ((r == -ENOENT || r == -ESRCH) && process_state(pid) == 'Z')
		log_err("cannot read the %s of process %d: it has ended; if threads of it are left, name one of /proc/%d/task",
			what, pid, pid);
	else
		log_err("cannot read the %s of process %d: %s%s%s", what, pid,
			r == -ENOENT || r == -ESRCH ? "no such process" : strerror(-r),
			denied ? "; " : "", denied ? remedy : "");
	return r;
}

/* Reads the name of the process. A thread that --pid names may have another one. */
static int read_command(struct caller *caller)
{
	_cleanup_close_ int fd = -1;
	char path[64], text[TPROXY_COMM_LEN + 1]; /* a newline follows the name */
	pid_t pid;
	ssize_t n;
	int r;

	r = process_of_thread(caller->pid, &pid);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (n < 0)
		return -errno;
	/* The name itself may contain a newline. */
	snprintf(caller->command, sizeof(caller->command), "%.*s", n > 0 ? (int)n - 1 : 0, text);
	return 0;
}

static int enter_netns(pid_t pid)
{
	_cleanup_close_ int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		return -errno;
	return 0;
}

/* Reads the cookie of the network namespace that this process is in. */
static int read_netns(struct caller *caller)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(caller->netns_cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &caller->netns_cookie, &len) < 0)
		return -errno;
	return 0;
}

/* Reads the ids of the cgroup and of those above it. */
static int read_cgroup_ids(struct caller *caller)
{
	_cleanup_free_ char *path = strdup(caller->cgroup.path);
	uint32_t level = caller->cgroup.level;
	int r;

	caller->cgroup_ids = calloc((size_t)level + 1, sizeof(*caller->cgroup_ids));
	if (!path || !caller->cgroup_ids)
		return -ENOMEM;
	for (caller->cgroup_ids[level] = caller->cgroup.id; level > 0; level--) {
		_cleanup_(cgroup_close) struct cgroup above = CGROUP_NULL;

		*strrchr(path, '/') = '\0';
		r = cgroup_open(path, &above);
		if (r < 0)
			return r;
		caller->cgroup_ids[level - 1] = above.id;
	}
	return 0;
}

static int read_process(struct caller *caller)
{
	int r;

	r = process_uid(caller->pid, &caller->uid);
	if (r == 0)
		r = process_gid(caller->pid, &caller->gid);
	if (r == 0)
		r = read_command(caller);
	if (r < 0)
		return log_error("status", caller->pid, r);
	r = enter_netns(caller->pid);
	if (r < 0)
		return log_error("network namespace", caller->pid, r);
	return 0;
}

static void take_options(const struct ctl_options *options, struct caller *caller)
{
	caller->uid = options->has_uid ? options->uid : getuid();
	caller->gid = options->has_gid ? options->gid : getgid();
	snprintf(caller->command, sizeof(caller->command), "%s",
		 options->has_command ? options->command : "tproxyctl");
}

int caller_read(const struct ctl_options *options, struct caller *caller)
{
	int r;

	if (faccessat(AT_FDCWD, "/proc/self/ns/user", F_OK, AT_EACCESS) < 0) {
		r = -errno;
		log_err("cannot read /proc/self/ns/user: %s; mount /proc", strerror(-r));
		return r;
	}
	if (!namespaces_is_initial(NAMESPACES_USER)) {
		log_err("the maps have the user ids of the initial user namespace; run this there");
		return -EXDEV;
	}
	caller->pid = options->pid;
	if (!caller->pid) {
		take_options(options, caller);
	} else {
		r = read_process(caller);
		if (r < 0)
			return r;
	}
	if (*options->cgroup)
		r = cgroup_open(options->cgroup, &caller->cgroup);
	else
		r = cgroup_open_of(caller->pid, &caller->cgroup);
	if (r == 0)
		r = read_cgroup_ids(caller);
	if (r < 0) {
		if (*options->cgroup)
			log_err("cgroup '%s': %s", options->cgroup, cgroup_strerror(r));
		else if (!caller->pid)
			log_err("the cgroup of this process: %s", cgroup_strerror(r));
		else
			log_err("the cgroup of process %d: %s", caller->pid, cgroup_strerror(r));
		return r;
	}
	r = read_netns(caller);
	if (r < 0)
		log_err("cannot read the cookie of the network namespace: %s", strerror(-r));
	return r;
}

void caller_finish(struct caller *caller)
{
	cgroup_close(&caller->cgroup);
	free(caller->cgroup_ids);
	caller->cgroup_ids = NULL;
}
