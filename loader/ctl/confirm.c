// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl: waits for a confirmation, see confirm.h.
 *
 * A user who loads rules or a block list over the network may cut off the connection that carries
 * the session. So the change is taken back unless it is confirmed: by Enter at the terminal, or by
 * a command, after which nothing is held any more. SIGINT, a hangup of the terminal and every other
 * end of this process take it back at once.
 *
 * The guard, a child in its own session, covers SIGKILL, SIGSTOP and output that blocks. It is
 * started, and knows that the change is its job, before anything changes. It takes the change back
 * when its socket to this process is closed, or GUARD_EXTRA_MS after the time. That begins when the
 * guard is told that the change is in force, or sees it in the pins: this process may be stopped
 * before it tells. If it is stopped with the lock of the pins, the guard has to kill it.
 *
 * The process ignores stop signals of the terminal, because a stopped process could not keep the
 * time.
 */
#include "confirm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "log.h"
#include "monotonic.h"
#include "parse.h"
#include "quote.h"
#include "state/pins.h"
#include "state/wait_lock.h"
#include "util.h"

/* Interval of the checks whether the change is still held. */
#define POLL_MS 100
/* The guard waits this much longer than its parent. */
#define GUARD_EXTRA_MS 5000

enum answer {
	ANSWER_NONE,
	ANSWER_KEEP,	  /* Enter */
	ANSWER_TAKE_BACK, /* a signal, a hangup of the terminal, the time has expired */
	ANSWER_GONE,	  /* another process has confirmed, or replaced what is in force */
};

/*
 * Reads a line. Enter alone confirms: a user who types "no" does not want to keep the rules. Only a
 * foreground process may call it: one in the background would be stopped.
 */
static enum answer read_terminal(const struct confirm_kind *kind)
{
	char line[256];
	ssize_t n = read(STDIN_FILENO, line, sizeof(line));

	if (n < 0 && errno == EINTR)
		return ANSWER_NONE;
	if (n <= 0)
		return ANSWER_TAKE_BACK;
	if (n == 1 && *line == '\n')
		return ANSWER_KEEP;
	log_info("press Enter alone to keep %s, or Ctrl-C to take %s back", kind->what, kind->them);
	return ANSWER_NONE;
}

/* Waits for at most POLL_MS. */
static enum answer look(const struct confirm *c)
{
	const bool terminal = isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
	struct pollfd fds[] = {
		{ .fd = c->signal_fd, .events = POLLIN },
		{ .fd = terminal ? STDIN_FILENO : -1, .events = POLLIN },
	};
	const uint64_t now_ms = monotonic_coarse_ms();

	if (now_ms >= c->ends_ms)
		return ANSWER_TAKE_BACK;
	if (!c->kind->is_held(c->pin_dir))
		return ANSWER_GONE;
	if (poll(fds, ARRAY_SIZE(fds), POLL_MS) <= 0)
		return ANSWER_NONE;
	if (fds[0].revents)
		return ANSWER_TAKE_BACK;
	return fds[1].revents ? read_terminal(c->kind) : ANSWER_NONE;
}

/* Blocks the signals that end a process, and opens a descriptor for them. */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGTSTP, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	/* The terminal may be gone before the result is printed. */
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* What the command tells the guard, each time all of it. See struct confirm. */
struct word {
	uint32_t before, generation;
	bool may_lock;
};

/* Nobody reads the guard's messages, and a terminal that is stopped must not hold it up. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd;

	setsid();
	for (fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
}

/* Returns false at the end of the command. */
static bool hear(struct confirm *c, int fd)
{
	struct word word;

	if (recv(fd, &word, sizeof(word), 0) != sizeof(word))
		return false;
	c->before = word.before;
	c->may_lock = word.may_lock;
	if (word.generation)
		c->generation = word.generation;
	return true;
}

/*
 * Looks whether the change is in force before the command has said so. Until it says so, it holds
 * the lock, so the generation that is seen is its own.
 */
static void see_generation(struct confirm *c, struct pollfd *command)
{
	uint32_t generation;

	if (!c->kind->is_held(c->pin_dir))
		return;
	generation = c->kind->generation(c->pin_dir);
	if (generation != c->before && poll(command, 1, 0) == 0)
		c->generation = generation;
}

/* Ends a command that is late and may hold the lock, without which nothing can be taken back. */
static void end_command(const struct confirm *c, int pid_fd)
{
	struct pollfd ended = { .fd = pid_fd, .events = POLLIN };

	if (!c->may_lock || !c->kind->is_held(c->pin_dir) ||
	    c->kind->generation(c->pin_dir) != c->generation)
		return;
	syscall(SYS_pidfd_send_signal, pid_fd, SIGKILL, NULL, 0);
	poll(&ended, 1, GUARD_EXTRA_MS);
}

static int guard_timeout(const struct confirm *c, bool owns)
{
	const uint64_t now_ms = monotonic_coarse_ms();

	if (!owns)
		return -1;
	if (!c->ends_ms)
		return POLL_MS;
	return c->ends_ms > now_ms ? (int)(c->ends_ms - now_ms) : 0;
}

/*
 * @late: the command has not ended. If finish() fails, it may have got the lock meanwhile. Without
 * a generation finish() looks for the lock of a waiting process, which the command must not have
 * any more.
 */
static void take_back(struct confirm *c, int pid_fd, bool late)
{
	struct pollfd ended = { .fd = pid_fd, .events = POLLIN };

	if (!c->kind->is_held(c->pin_dir))
		return;
	if (late)
		end_command(c, pid_fd);
	else if (!c->generation)
		poll(&ended, 1, GUARD_EXTRA_MS);
	if (c->kind->finish(c, /* keep= */ false) >= 0 || !late)
		return;
	c->may_lock = true;
	end_command(c, pid_fd);
	c->kind->finish(c, /* keep= */ false);
}

/*
 * The child. It waits for the end of the command or of the time. If the command ends before it says
 * that it changes anything, the child does nothing.
 */
_Noreturn static void guard(struct confirm *c, int fd, int pid_fd)
{
	struct pollfd command = { .fd = fd, .events = POLLIN };
	bool owns = false, late = false;
	int r;

	leave_terminal();
	if (send(fd, "", 1, MSG_NOSIGNAL) != 1)
		_exit(1);
	while (!late) {
		r = poll(&command, 1, guard_timeout(c, owns));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 || (r > 0 && !hear(c, fd)))
			break;
		owns |= r > 0;
		late = r == 0 && c->ends_ms && monotonic_coarse_ms() >= c->ends_ms;
		if (r == 0 && !c->ends_ms)
			see_generation(c, &command);
		if (c->generation && !c->ends_ms) {
			c->ends_ms = monotonic_coarse_ms() + c->timeout_ms + GUARD_EXTRA_MS;
			wait_lock_take(c->pin_dir, c->kind->pin);
		}
	}
	if (owns)
		take_back(c, pid_fd, late);
	_exit(0);
}

/* Returns when the guard has left the process group, so that a signal to that does not stop it. */
static int start_guard(struct confirm *c)
{
	_cleanup_close_ int pid_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int fds[2], r;
	char ready;

	if (pid_fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	c->guard = fork();
	r = -errno;
	if (c->guard == 0) {
		close(fds[0]);
		guard(c, fds[1], pid_fd);
	}
	close(fds[1]);
	if (c->guard < 0) {
		c->guard = 0;
		close(fds[0]);
		return r;
	}
	c->guard_fd = fds[0];
	return recv(c->guard_fd, &ready, sizeof(ready), 0) == sizeof(ready) ? 0 : -ECHILD;
}

int confirm_begin(const struct confirm_kind *kind, const char *pin_dir, uint64_t timeout_ms,
		  struct confirm *c)
{
	int r;

	*c = (struct confirm){
		.kind = kind,
		.pin_dir = pin_dir,
		.timeout_ms = timeout_ms,
		.guard_fd = -1,
		.wait_fd = -1,
		.signal_fd = open_signals(),
	};
	r = c->signal_fd < 0 ? -errno : start_guard(c);
	if (r < 0)
		log_err("cannot wait for a confirmation: %s", strerror(-r));
	return r;
}

static int tell_guard(const struct confirm *c)
{
	const struct word word = {
		.before = c->before,
		.generation = c->generation,
		.may_lock = c->may_lock,
	};

	return send(c->guard_fd, &word, sizeof(word), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int confirm_own(struct confirm *c, uint32_t before)
{
	int r;

	c->before = before;
	c->may_lock = true;
	r = tell_guard(c);
	if (r < 0) {
		log_err("the process that would take %s back has ended, so nothing changes",
			c->kind->what);
		return r;
	}
	c->wait_fd = wait_lock_take(c->pin_dir, c->kind->pin);
	if (c->wait_fd < 0)
		log_err("cannot lock '%s/%s': %s", c->pin_dir, c->kind->pin, strerror(-c->wait_fd));
	return c->wait_fd < 0 ? c->wait_fd : 0;
}

void confirm_in_force(struct confirm *c, uint32_t generation)
{
	c->generation = generation;
	c->ends_ms = monotonic_coarse_ms() + c->timeout_ms;
	tell_guard(c);
}

void confirm_unlocked(struct confirm *c)
{
	c->may_lock = false;
	/* Without a guard, this process alone keeps the time. */
	if (tell_guard(c) < 0)
		log_warning("the process that would take %s back after SIGKILL has ended",
			    c->kind->what);
}

static void log_prompt(const struct confirm *c)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)], time[FORMAT_DURATION_LEN];
	const struct confirm_kind *kind = c->kind;

	shell_quote(c->pin_dir, quoted, sizeof(quoted));
	format_duration_ms(c->timeout_ms, time);
	if (isatty(STDIN_FILENO))
		log_info(
			"%s %s in force; to keep %s, press Enter (Ctrl-C takes %s back) or run within %s: %s -p %s",
			kind->what, kind->are, kind->them, kind->them, time, kind->keep, quoted);
	else
		log_info("%s %s in force; to keep %s, run within %s: %s -p %s", kind->what,
			 kind->are, kind->them, time, kind->keep, quoted);
}

static int log_outcome(const struct confirm *c, int r, bool keep)
{
	const struct confirm_kind *kind = c->kind;
	char option[PINS_OPTION_LEN];

	if (r < 0)
		log_err("cannot %s %s; %s%s does it", keep ? "confirm" : "take back", kind->what,
			keep ? kind->keep : kind->revert, pins_format_option(c->pin_dir, option));
	else if (r == 2)
		log_err("%s that waited %s no longer in force", kind->what, kind->are);
	else if (r == 1 || keep)
		log_info("confirmed");
	else
		log_err("not confirmed: %s in force again", kind->previous);
	return r < 0 ? r : r == 1 || (r == 0 && keep) ? 0 : 1;
}

int confirm_wait(struct confirm *c)
{
	enum answer answer = ANSWER_NONE;
	int r;

	/* Discard keys that were pressed before the question. */
	tcflush(STDIN_FILENO, TCIFLUSH);
	log_prompt(c);
	while (answer == ANSWER_NONE)
		answer = look(c);
	c->may_lock = true;
	tell_guard(c);
	r = c->kind->finish(c, answer == ANSWER_KEEP);
	c->finished = r >= 0;
	return log_outcome(c, r, answer == ANSWER_KEEP);
}

void confirm_end(struct confirm *c)
{
	/* The guard may be stopped. */
	if (c->finished && c->guard > 0)
		kill(c->guard, SIGKILL);
	util_closep(&c->guard_fd);
	util_closep(&c->signal_fd);
	util_closep(&c->wait_fd);
	if (c->guard > 0)
		waitpid(c->guard, NULL, 0);
	c->guard_fd = -1;
	c->signal_fd = -1;
	c->wait_fd = -1;
	c->guard = 0;
}
