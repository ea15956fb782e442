// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See supervisor.h. There are two processes and a SOCK_SEQPACKET pair between them.
 *
 *   signals   The supervisor reads them from a signalfd. It forwards SIGHUP, SIGQUIT and SIGUSR1 to
 *             the child. SIGTERM and SIGINT end the supervisor, and the child drains.
 *   messages  The child sends states for the service manager, which the supervisor passes on
 *             (notify.h), and its listening sockets, by SCM_RIGHTS.
 *   SIGCHLD   If the child exits, the supervisor exits with the same status. If a signal kills the
 *             child, the supervisor forks the next one, which gets the sockets. It does not if it
 *             holds no sockets, or if the child was killed right after its start.
 *
 * When the supervisor exits, for whatever reason, the child reads EOF on the socket pair.
 */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "logfile.h"
#include "monotonic.h"
#include "notify.h"
#include "util.h"

/* A child that is killed sooner would most likely be killed again: systemd restarts it instead. */
#define LIFE_LEAST_MS 1000
/* How long to wait for the log to be written before a fork. */
#define LOG_STOP_MS 100

/* Messages of supervisor_hold(); all other messages are states for notify(). */
static const char hold[] = "HOLD"; /* instead of those before */
static const char more[] = "MORE"; /* and these */
/* Sockets in one message; the kernel's limit is 253 (SCM_MAX_FD). */
#define MESSAGE_MAX 128

struct supervisor {
	pid_t child;
	uint64_t started_ms;
	int fd; /* socket pair to the child */
	int signal_fd;
	sigset_t mask; /* signal mask for the child */
	int held[SUPERVISOR_SOCKETS_MAX];
	uint32_t n_held;
};

/* Buffer for the control data of one message with all sockets. */
union control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(MESSAGE_MAX * sizeof(int))];
};

static void send_sockets(int fd, const char text[sizeof(hold)], const int *sockets, uint32_t n)
{
	struct iovec iov = { .iov_base = (void *)text, .iov_len = sizeof(hold) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control = {};
	struct cmsghdr *cmsg;

	if (n > 0) {
		message.msg_control = control.buf;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&message);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(cmsg), sockets, n * sizeof(int));
	}
	/* Ignore errors: the supervisor may be gone. */
	sendmsg(fd, &message, MSG_NOSIGNAL);
}

void supervisor_hold(int fd, const int *sockets, uint32_t n)
{
	const uint32_t first = n < MESSAGE_MAX ? n : MESSAGE_MAX;

	send_sockets(fd, hold, sockets, first);
	if (n > first)
		send_sockets(fd, more, sockets + first, n - first);
}

static void release(struct supervisor *s)
{
	while (s->n_held > 0)
		close(s->held[--s->n_held]);
}

/* Takes over the sockets that came with a message. */
static void take(struct supervisor *s, struct msghdr *message)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(message);
	uint32_t n, i;
	int fd;

	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
		return;
	n = (uint32_t)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	for (i = 0; i < n; i++) {
		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(fd), sizeof(fd));
		if (s->n_held < SUPERVISOR_SOCKETS_MAX)
			s->held[s->n_held++] = fd;
		else
			close(fd);
	}
}

/* Reads and handles one message of the child. Returns false if there is none. */
static bool read_message(struct supervisor *s)
{
	char text[64];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
	union control control;
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n = recvmsg(s->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return false;
	text[n] = '\0';
	if (strcmp(text, hold) == 0)
		release(s);
	if (strcmp(text, hold) == 0 || strcmp(text, more) == 0)
		take(s, &message);
	else
		notify(-1, text);
	return true;
}

enum outcome {
	GO_ON,
	NEXT_CHILD,
	END,
};

static enum outcome on_child(struct supervisor *s, int *ret_status)
{
	int status;

	if (waitpid(s->child, &status, WNOHANG) != s->child)
		return GO_ON;
	while (read_message(s))
		;
	if (WIFEXITED(status)) {
		*ret_status = WEXITSTATUS(status);
		return END;
	}
	*ret_status = EXIT_FAILURE;
	if (s->n_held == 0 || monotonic_coarse_ms() - s->started_ms < LIFE_LEAST_MS) {
		log_err("the relay, pid %d, was ended by: %s", s->child,
			strsignal(WTERMSIG(status)));
		return END;
	}
	log_err("the relay, pid %d, was ended by: %s; what it served is lost, new clients wait for the next one",
		s->child, strsignal(WTERMSIG(status)));
	return NEXT_CHILD;
}

static enum outcome on_signal(struct supervisor *s, int *ret_status)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return GO_ON;
	switch (info.ssi_signo) {
	case SIGCHLD:
		return on_child(s, ret_status);
	case SIGTERM:
	case SIGINT:
		notify(-1, "STOPPING=1");
		log_info("%s: pid %d drains in the background", strsignal((int)info.ssi_signo),
			 s->child);
		*ret_status = EXIT_SUCCESS;
		return END;
	case SIGHUP:
		logfile_reopen();
		kill(s->child, SIGHUP);
		return GO_ON;
	default:
		kill(s->child, (int)info.ssi_signo);
		return GO_ON;
	}
}

static enum outcome supervise(struct supervisor *s, int *ret_status)
{
	struct pollfd fds[] = {
		{ .fd = s->signal_fd, .events = POLLIN },
		{ .fd = s->fd, .events = POLLIN },
	};
	enum outcome outcome = GO_ON;

	while (outcome == GO_ON) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR) {
			log_err("cannot wait for signals: %m");
			*ret_status = EXIT_FAILURE;
			return END;
		}
		if (fds[1].revents & POLLIN)
			read_message(s);
		/* The child's EOF comes before SIGCHLD, which brings the exit status. */
		if (fds[1].revents & (POLLHUP | POLLERR))
			fds[1].fd = -1;
		if (fds[0].revents)
			outcome = on_signal(s, ret_status);
	}
	return outcome;
}

static int log_error(const char *what)
{
	int r = -errno;

	log_err("--drain-in-background: %s: %s", what, strerror(-r));
	return r;
}

/* Returns 0 in the child, 1 in the supervisor; -errno, logged. */
static int start_child(struct supervisor *s, struct supervisor_child *ret_child)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return log_error("cannot make a socket pair");
	/* A child does not inherit threads, so stop the log's thread first. */
	logfile_stop(LOG_STOP_MS);
	ret_child->again = s->child > 0;
	util_closep(&s->fd);
	s->fd = fds[0];
	s->started_ms = monotonic_coarse_ms();
	s->child = fork();
	if (s->child < 0) {
		close(fds[1]);
		return log_error("cannot start the relay");
	}
	if (s->child > 0) {
		close(fds[1]);
		return 1;
	}
	close(fds[0]);
	close(s->signal_fd);
	sigprocmask(SIG_SETMASK, &s->mask, NULL);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	ret_child->fd = fds[1];
	ret_child->n_sockets = s->n_held;
	memcpy(ret_child->sockets, s->held, s->n_held * sizeof(int));
	return 0;
}

int supervisor_run(struct supervisor_child *ret_child, int *ret_status)
{
	struct supervisor supervisor = { .fd = -1 };
	enum outcome outcome;
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &supervisor.mask);
	supervisor.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (supervisor.signal_fd < 0) {
		r = log_error("cannot wait for signals");
		sigprocmask(SIG_SETMASK, &supervisor.mask, NULL);
		return r;
	}
	do {
		r = start_child(&supervisor, ret_child);
		if (r <= 0)
			return r;
		outcome = supervise(&supervisor, ret_status);
	} while (outcome == NEXT_CHILD);
	release(&supervisor);
	return 1;
}
