// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run: the background process, see run_reaper.h.
 *
 * The command takes the place of tproxyctl, so that signals, job control, exit status and parent
 * are as without tproxyctl. This process does the work that remains after the command. It is forked
 * twice, so it is no child of the command, and has its own session, so no key of the terminal
 * reaches it. It waits for events of four kinds:
 *
 *   the socket   the command's cgroup, and its observed connections; end of file when the command
 *                has been started
 *   the ring     an observed connection has ended: log it
 *   the pidfd    the command has ended: report the processes that it leaves in its cgroup
 *   the cgroup   it is empty: remove it and end
 *
 * stderr is closed as soon as the command has ended, because its reader may wait for end of file.
 */
#include "run_reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "host/cgroup_child.h"
#include "load/instance.h"
#include "log.h"
#include "run_events.h"
#include "util.h"

/*
 * Limit of the time that other processes of the command, such as the rest of a pipeline, may take
 * to end after it.
 */
#define GRACE_MS 200
/* Limit of the time that connections may take to end after the command has closed them. */
#define OBSERVED_GRACE_MS 1000

/* A message of one of two kinds: with a path, or with the descriptors of an instance. */
struct message {
	bool remove;
	char path[PATH_MAX];
};

struct reaper {
	int socket_fd, pid_fd, events_fd;
	bool ended; /* the command */
	struct message cgroup;
	struct instance instance;
	struct run_events observed;
};

/* Room for the descriptors of an instance. */
union control {
	struct cmsghdr header; /* for its alignment */
	char data[CMSG_SPACE(sizeof(struct instance))];
};

static int receive_cgroup(struct reaper *r, const struct message *message)
{
	_cleanup_(cgroup_close) struct cgroup cgroup = CGROUP_NULL;
	int error;

	r->cgroup = *message;
	error = cgroup_open(message->path, &cgroup);
	return error < 0 ? error : cgroup_child_watch(&cgroup, &r->events_fd);
}

/* Returns false if the command was not started and never will be. */
static bool read_socket(struct reaper *r)
{
	union control control;
	struct message message;
	struct iovec data = { .iov_base = &message, .iov_len = sizeof(message) };
	struct msghdr header = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *rights;

	if (recvmsg(r->socket_fd, &header, MSG_CMSG_CLOEXEC) != sizeof(message)) {
		close(r->socket_fd);
		r->socket_fd = -1;
		return r->events_fd >= 0;
	}
	rights = CMSG_FIRSTHDR(&header);
	if (!rights)
		return receive_cgroup(r, &message) == 0;
	memcpy(&r->instance, CMSG_DATA(rights), sizeof(r->instance));
	run_events_open(&r->instance, run_events_log, NULL, &r->observed);
	return true;
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

/*
 * Waits until the cgroup's last process has ended, for at most timeout_ms (-1: without limit).
 * Returns true if it has.
 */
static bool wait_empty(const struct reaper *r, int timeout_ms)
{
	struct pollfd events = { .fd = r->events_fd, .events = POLLPRI };

	while (cgroup_child_is_populated(r->events_fd) > 0) {
		if (poll(&events, 1, timeout_ms) == 0)
			return false;
	}
	return true;
}

/* Connections end shortly after the process that has closed them. */
static void log_last_observed(struct reaper *r)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000000 };
	uint64_t n, lost;
	int i;

	if (!r->observed.ring)
		return;
	for (i = 0; i < OBSERVED_GRACE_MS / 10; i++) {
		if (run_events_open_connections(&r->observed, NULL, NULL) == 0)
			break;
		nanosleep(&pause, NULL);
	}
	run_events_read(&r->observed);
	n = run_events_open_connections(&r->observed, NULL, NULL);
	lost = run_events_lost(&r->observed);
	if (n > 0)
		log_info("run: %" PRIu64 " observed connections have not ended, and are not logged",
			 n);
	if (lost > 0)
		log_warning("run: %" PRIu64 " observed connections are missing from the log", lost);
}

static void wait_for_command(struct reaper *r)
{
	struct pollfd fds[3] = {};

	while (!r->ended) {
		fds[0] = (struct pollfd){ .fd = r->socket_fd, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = r->pid_fd, .events = POLLIN };
		fds[2] = (struct pollfd){ .fd = run_events_fd(&r->observed), .events = POLLIN };
		if (poll(fds, ARRAY_SIZE(fds), run_events_timeout(&r->observed)) < 0)
			continue;
		r->ended = fds[1].revents;
		if (fds[0].revents && !read_socket(r))
			return;
		run_events_read(&r->observed);
	}
}

static void serve(struct reaper *r)
{
	wait_for_command(r);
	if (r->events_fd < 0)
		return;
	if (!wait_empty(r, GRACE_MS))
		report_left(r);
	log_last_observed(r);
	close_stderr();
	if (!r->cgroup.remove)
		return;
	wait_empty(r, -1);
	cgroup_child_remove(r->cgroup.path);
}

/* Leaves the directory of the command, and closes its descriptors except stderr. */
static void detach(const struct reaper *r)
{
	const unsigned int first =
		(unsigned int)(r->pid_fd < r->socket_fd ? r->pid_fd : r->socket_fd);
	const unsigned int last =
		(unsigned int)(r->pid_fd < r->socket_fd ? r->socket_fd : r->pid_fd);
	int null = open("/dev/null", O_RDWR);

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
 * fork(2) whose child sends no SIGCHLD at its end: a blocked SIGCHLD would still be pending when
 * the command starts.
 */
static pid_t fork_silently(void)
{
	return (pid_t)syscall(SYS_clone, 0UL, NULL, NULL, NULL, 0UL);
}

int run_reaper_start(void)
{
	struct reaper r = { .events_fd = -1, .instance = INSTANCE_NULL };
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
		/*
		 * Before this child ends, for which the caller waits: a signal to the command's
		 * process group must not reach the process in the background.
		 */
		setsid();
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

/* @instance may be NULL. */
static int send_message(int socket_fd, const struct message *message,
			const struct instance *instance)
{
	struct iovec data = { .iov_base = (void *)message, .iov_len = sizeof(*message) };
	union control control = {
		.header = {
			.cmsg_len = CMSG_LEN(sizeof(*instance)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		},
	};
	struct msghdr header = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = instance ? &control : NULL,
		.msg_controllen = instance ? sizeof(control) : 0,
	};
	int r;

	if (instance)
		memcpy(CMSG_DATA(&control.header), instance, sizeof(*instance));
	if (sendmsg(socket_fd, &header, MSG_NOSIGNAL) >= 0)
		return 0;
	r = -errno;
	log_err("run: the process in the background has ended: %s", strerror(-r));
	return r;
}

int run_reaper_watch(int socket_fd, const char *path, bool remove)
{
	struct message message = { .remove = remove };

	snprintf(message.path, sizeof(message.path), "%s", path);
	return send_message(socket_fd, &message, NULL);
}

int run_reaper_observe(int socket_fd, const struct instance *instance)
{
	const struct message message = {};

	return send_message(socket_fd, &message, instance);
}
