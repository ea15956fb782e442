// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl: waits for a confirmation, see confirm.h.
 *
 * A user who loads rules or a block list over the network may cut off the connection that carries
 * the session. So the change is taken back unless it is confirmed: by Enter at the terminal, or by
 * a command, after which nothing is held any more. SIGINT, a hangup of the terminal and every other
 * end of this process take it back at once. The guard, a child in its own session, covers SIGKILL:
 * it takes the change back when its pipe to this process is closed. It is started before anything
 * changes, so the change is never in force without it.
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
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
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

/*
 * The child: gets the generation from its parent and waits for the parent's end. Nobody reads its
 * messages. If the parent ended before it changed anything, no generation comes and the child
 * does nothing.
 */
_Noreturn static void guard(struct confirm *c, int pipe_fd)
{
	struct pollfd pollfd = { .fd = pipe_fd, .events = POLLIN };
	int timeout_ms = -1, r;
	bool owns = false;

	setsid();
	for (;;) {
		r = poll(&pollfd, 1, timeout_ms);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0 || read(pipe_fd, &c->generation, sizeof(c->generation)) <= 0)
			break;
		owns = true;
		if (!c->generation)
			continue;
		timeout_ms = (int)(c->timeout_ms + GUARD_EXTRA_MS);
		wait_lock_take(c->pin_dir, c->kind->pin);
	}
	if (owns && c->kind->is_held(c->pin_dir))
		c->kind->finish(c, /* keep= */ false);
	_exit(0);
}

static int start_guard(struct confirm *c)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	c->guard = fork();
	r = -errno;
	if (c->guard == 0) {
		close(fds[1]);
		guard(c, fds[0]);
	}
	close(fds[0]);
	if (c->guard < 0) {
		c->guard = 0;
		close(fds[1]);
		return r;
	}
	c->pipe_fd = fds[1];
	return 0;
}

int confirm_begin(const struct confirm_kind *kind, const char *pin_dir, uint64_t timeout_ms,
		  struct confirm *c)
{
	int r;

	*c = (struct confirm){
		.kind = kind,
		.pin_dir = pin_dir,
		.timeout_ms = timeout_ms,
		.pipe_fd = -1,
		.wait_fd = -1,
		.signal_fd = open_signals(),
	};
	r = c->signal_fd < 0 ? -errno : start_guard(c);
	if (r < 0)
		log_err("cannot wait for a confirmation: %s", strerror(-r));
	return r;
}

static void tell_guard(struct confirm *c, uint32_t generation)
{
	c->generation = generation;
	/* SIGPIPE is ignored. Without a guard, this process alone keeps the time. */
	if (write(c->pipe_fd, &generation, sizeof(generation)) < 0)
		log_warning("the process that would take %s back after SIGKILL has ended",
			    c->kind->what);
}

void confirm_own(struct confirm *c)
{
	tell_guard(c, 0);
}

int confirm_held(struct confirm *c)
{
	c->wait_fd = wait_lock_take(c->pin_dir, c->kind->pin);
	if (c->wait_fd < 0)
		log_err("cannot lock '%s/%s': %s", c->pin_dir, c->kind->pin, strerror(-c->wait_fd));
	return c->wait_fd < 0 ? c->wait_fd : 0;
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

int confirm_wait(struct confirm *c, uint32_t generation)
{
	enum answer answer = ANSWER_NONE;

	c->ends_ms = monotonic_coarse_ms() + c->timeout_ms;
	tell_guard(c, generation);
	/* Discard keys that were pressed before the question. */
	tcflush(STDIN_FILENO, TCIFLUSH);
	log_prompt(c);
	while (answer == ANSWER_NONE)
		answer = look(c);
	return log_outcome(c, c->kind->finish(c, answer == ANSWER_KEEP), answer == ANSWER_KEEP);
}

void confirm_end(struct confirm *c)
{
	util_closep(&c->pipe_fd);
	util_closep(&c->signal_fd);
	util_closep(&c->wait_fd);
	if (c->guard > 0)
		waitpid(c->guard, NULL, 0);
	c->pipe_fd = -1;
	c->signal_fd = -1;
	c->wait_fd = -1;
	c->guard = 0;
}
