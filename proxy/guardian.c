// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See guardian.h. Two processes and a socket pair. The guardian passes signals down and what the
 * child tells the service manager up; SIGTERM and SIGINT end it, and its end of the pair with it.
 * If it is killed, that is so too: the child needs nobody to tell it.
 */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "notify.h"
#include "util.h"

struct guardian {
	pid_t child;
	int fd; /* to the child */
	int signal_fd;
};

static void pass_up(const struct guardian *g)
{
	char state[64];
	ssize_t n = recv(g->fd, state, sizeof(state) - 1, MSG_DONTWAIT);

	if (n <= 0)
		return;
	state[n] = '\0';
	notify(-1, state);
}

/* Has the child ended? */
static bool has_ended(const struct guardian *g, int *ret_status)
{
	int status;

	if (waitpid(g->child, &status, WNOHANG) != g->child)
		return false;
	if (WIFEXITED(status)) {
		*ret_status = WEXITSTATUS(status);
	} else {
		log_err("the relay, pid %d, was ended by %s", g->child,
			strsignal(WTERMSIG(status)));
		*ret_status = EXIT_FAILURE;
	}
	return true;
}

/* Is the guardian to end? */
static bool on_signal(const struct guardian *g, int *ret_status)
{
	struct signalfd_siginfo info;

	if (read(g->signal_fd, &info, sizeof(info)) != sizeof(info))
		return false;
	switch (info.ssi_signo) {
	case SIGCHLD:
		return has_ended(g, ret_status);
	case SIGTERM:
	case SIGINT:
		notify(-1, "STOPPING=1");
		log_info("%s: pid %d drains in the background", strsignal((int)info.ssi_signo),
			 g->child);
		*ret_status = EXIT_SUCCESS;
		return true;
	default:
		kill(g->child, (int)info.ssi_signo);
		return false;
	}
}

static int guard(const struct guardian *g)
{
	struct pollfd fds[] = {
		{ .fd = g->signal_fd, .events = POLLIN },
		{ .fd = g->fd, .events = POLLIN },
	};
	int status = EXIT_FAILURE;

	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR) {
			log_err("cannot wait for signals: %m");
			return EXIT_FAILURE;
		}
		if (fds[1].revents & POLLIN)
			pass_up(g);
		/* Its end of file comes before SIGCHLD, which has the status. */
		if (fds[1].revents & (POLLHUP | POLLERR))
			fds[1].fd = -1;
		if (fds[0].revents && on_signal(g, &status))
			return status;
	}
}

static int log_error(const char *what)
{
	int r = -errno;

	log_err("--drain-in-background: %s: %s", what, strerror(-r));
	return r;
}

int guardian_run(int *ret_fd, int *ret_status)
{
	_cleanup_close_ int child_fd = -1, signal_fd = -1, fd = -1;
	struct guardian guardian;
	sigset_t set, before;
	int fds[2];

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return log_error("cannot make a socket pair");
	fd = fds[0];
	child_fd = fds[1];
	sigprocmask(SIG_BLOCK, &set, &before);
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	guardian = (struct guardian){ .fd = fd, .signal_fd = signal_fd };
	guardian.child = signal_fd < 0 ? -1 : fork();
	if (guardian.child < 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		return log_error("cannot start the relay");
	}
	if (guardian.child == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		fcntl(child_fd, F_SETFL, O_NONBLOCK);
		*ret_fd = TAKE_FD(child_fd);
		return 0;
	}
	util_closep(&child_fd);
	child_fd = -1;
	*ret_status = guard(&guardian);
	return 1;
}
