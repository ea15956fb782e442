// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run: the background process, see run_reaper.h.
 *
 * The command takes the place of tproxyctl, so that signals, job control, exit status and parent
 * are as without tproxyctl. This process does what is left to do after the command: it is forked
 * twice, so it is no child of the command, and has a session of its own, so no key of the terminal
 * reaches it. It waits for events of three kinds:
 *
 *   the socket   the command's cgroup; end of file, because the command has been started
 *   the pidfd    the command has ended: report the processes that it leaves in its cgroup
 *   the cgroup   it is empty: remove it and end
 *
 * stderr is closed as soon as the command has ended, because whoever reads it may wait for its end.
 */
#include "run_reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "host/cgroup_child.h"
#include "log.h"
#include "util.h"

/* Processes that end with the command, such as the rest of a pipeline, may take this long. */
#define GRACE_MS 200

struct message {
	bool remove;
	char path[PATH_MAX];
};

struct reaper {
	int socket_fd, pid_fd, events_fd;
	bool ended; /* the command */
	struct message cgroup;
};

/* Returns false if the command was not started and never will be. */
static bool read_socket(struct reaper *r)
{
	_cleanup_(cgroup_close) struct cgroup cgroup = CGROUP_NULL;

	if (recv(r->socket_fd, &r->cgroup, sizeof(r->cgroup), 0) != sizeof(r->cgroup)) {
		close(r->socket_fd);
		r->socket_fd = -1;
		return r->events_fd >= 0;
	}
	return cgroup_open(r->cgroup.path, &cgroup) == 0 &&
	       cgroup_child_watch(&cgroup, &r->events_fd) == 0;
}

static void report_left(const struct reaper *r)
{
	char text[CGROUP_CHILD_LIST_LEN];
	size_t n = cgroup_child_list(r->cgroup.path, text);

	if (n > 0)
		log_info("run: the command has ended, %zu process%s of it continue%s in '%s': %s",
			 n, n == 1 ? "" : "es", n == 1 ? "s" : "", r->cgroup.path, text);
}

static void close_stderr(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
	util_closep(&fd);
}

/* Waits for the end of the cgroup's last process, timeout_ms at most, -1: without limit. Returns
 * true if it came. */
static bool wait_empty(const struct reaper *r, int timeout_ms)
{
	struct pollfd events = { .fd = r->events_fd, .events = POLLPRI };

	while (cgroup_child_is_populated(r->events_fd) > 0) {
		if (poll(&events, 1, timeout_ms) == 0)
			return false;
	}
	return true;
}

static void serve(struct reaper *r)
{
	struct pollfd fds[] = {
		{ .fd = r->socket_fd, .events = POLLIN },
		{ .fd = r->pid_fd, .events = POLLIN },
	};

	while (!r->ended) {
		fds[0].fd = r->socket_fd;
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		r->ended = fds[1].revents;
		if (r->socket_fd >= 0 && fds[0].revents && !read_socket(r))
			return;
	}
	if (r->events_fd < 0)
		return;
	if (!wait_empty(r, GRACE_MS))
		report_left(r);
	close_stderr();
	if (!r->cgroup.remove)
		return;
	wait_empty(r, -1);
	cgroup_child_remove(r->cgroup.path);
}

/* Closes all that is the command's, but not stderr. */
static void detach(const struct reaper *r)
{
	const unsigned int first =
		(unsigned int)(r->pid_fd < r->socket_fd ? r->pid_fd : r->socket_fd);
	const unsigned int last =
		(unsigned int)(r->pid_fd < r->socket_fd ? r->socket_fd : r->pid_fd);
	int null = open("/dev/null", O_RDWR);

	setsid();
	signal(SIGPIPE, SIG_IGN);
	if (chdir("/") < 0)
		log_debug("cannot leave the directory: %s", strerror(errno));
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	if (first > 3)
		close_range(3, first - 1, 0);
	if (last > first + 1)
		close_range(first + 1, last - 1, 0);
	close_range(last + 1, UINT_MAX, 0);
}

/*
 * fork(2) whose child sends no SIGCHLD at its end: one that is blocked now would be pending when
 * the command starts.
 */
static pid_t fork_silently(void)
{
	return (pid_t)syscall(SYS_clone, 0UL, NULL, NULL, NULL, 0UL);
}

int run_reaper_start(void)
{
	struct reaper r = { .events_fd = -1 };
	int pair[2], error = 0;
	pid_t pid;

	r.pid_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (r.pid_fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		error = -errno;
		log_err("run: cannot start a process: %s", strerror(-error));
		util_closep(&r.pid_fd);
		return error;
	}
	r.socket_fd = pair[1];
	pid = fork_silently();
	if (pid == 0) {
		close(pair[0]);
		if (fork_silently() == 0) {
			detach(&r);
			serve(&r);
		}
		_exit(0);
	}
	error = pid < 0 ? -errno : 0;
	close(pair[1]);
	close(r.pid_fd);
	if (pid < 0) {
		log_err("run: cannot start a process: %s", strerror(-error));
		close(pair[0]);
		return error;
	}
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	return pair[0];
}

int run_reaper_watch(int socket_fd, const char *path, bool remove)
{
	struct message message = { .remove = remove };

	snprintf(message.path, sizeof(message.path), "%s", path);
	if (send(socket_fd, &message, sizeof(message), MSG_NOSIGNAL) < 0) {
		int r = -errno;

		log_err("run: the process in the background has ended: %s", strerror(-r));
		return r;
	}
	return 0;
}
