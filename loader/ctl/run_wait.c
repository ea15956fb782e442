// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run --write-rules: the rules are written after the command has ended, and before the
 * caller goes on. So this process waits, and the command is a child in the same process group.
 *
 * What the terminal sends reaches both. This process does not act on such a signal: it stops when
 * the command has stopped, and ends when the command has ended. A signal that a process has sent is
 * forwarded. If it was sent to the whole group, the command gets it twice.
 */
#include "run_wait.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run_events.h"
#include "util.h"

void run_wait_prepare(struct run_wait_before *ret_before)
{
	/* While SIGCHLD is ignored no status is kept. */
	const struct sigaction by_default = { .sa_handler = SIG_DFL };
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &ret_before->mask);
	sigaction(SIGCHLD, &by_default, &ret_before->on_child);
}

void run_wait_restore(const struct run_wait_before *before)
{
	sigaction(SIGCHLD, &before->on_child, NULL);
	sigprocmask(SIG_SETMASK, &before->mask, NULL);
}

/* Returns true, with the status, if the child has ended. Stops if the child has stopped. */
static bool look_at_child(pid_t pid, int *ret_status)
{
	int status;

	while (waitpid(pid, &status, WNOHANG | WUNTRACED) == pid) {
		if (!WIFSTOPPED(status)) {
			*ret_status = status;
			return true;
		}
		/* Stops this process. Returns when it is continued. */
		raise(SIGSTOP);
		kill(pid, SIGCONT);
	}
	return false;
}

static void pass_on(pid_t pid, int signal_fd)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD && info.ssi_code <= 0 && (pid_t)info.ssi_pid != pid)
			kill(pid, (int)info.ssi_signo);
	}
}

int run_wait(pid_t pid, struct run_events *events)
{
	_cleanup_close_ int signal_fd = -1;
	struct pollfd fds[2];
	sigset_t all;
	int status;

	sigfillset(&all);
	signal_fd = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
	fds[0] = (struct pollfd){ .fd = signal_fd, .events = POLLIN };
	while (!look_at_child(pid, &status)) {
		fds[1] = (struct pollfd){ .fd = run_events_fd(events), .events = POLLIN };
		poll(fds, ARRAY_SIZE(fds), run_events_timeout(events));
		pass_on(pid, signal_fd);
		run_events_read(events);
	}
	return status;
}

int run_wait_end_as(int status)
{
	sigset_t one;

	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	/* The command has already dumped core, so this process must not. */
	prctl(PR_SET_DUMPABLE, 0);
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, WTERMSIG(status));
	raise(WTERMSIG(status));
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	return 128 + WTERMSIG(status);
}
