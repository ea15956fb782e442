// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl rules load --confirm: waits, see rules.h.
 *
 * A user who loads rules over the network may cut off the connection that carries the session. So
 * the rules are taken back unless they are confirmed: by Enter at the terminal, or by `tproxyctl
 * rules confirm`, which removes the pin of the previous rules. SIGINT, a hangup of the terminal and
 * every other end of this process take them back at once. The guard, a child in its own session,
 * covers SIGKILL: it takes the rules back when its pipe to this process is closed. It is started
 * before the rules are replaced, so they are never in force without it.
 *
 * The process ignores stop signals of the terminal, because a stopped process could not keep the
 * time.
 */
#include "rules.h"

#include <bpf/bpf.h>
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
#include "objects.h"
#include "options.h"
#include "parse.h"
#include "quote.h"
#include "state/pins.h"
#include "state/rules_store.h"
#include "state/rules_wait.h"
#include "tproxy_abi.h"
#include "util.h"

/* Interval of the checks for the pin of the previous rules. */
#define POLL_MS 100
/* The guard waits this much longer than its parent. */
#define GUARD_EXTRA_MS 5000

enum answer {
	ANSWER_NONE,
	ANSWER_KEEP,	  /* Enter */
	ANSWER_TAKE_BACK, /* a signal, a hangup of the terminal, the time has expired */
	ANSWER_GONE,	  /* another process has confirmed, or replaced the rules */
};

static bool is_held(const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	char path[PATH_MAX];

	return pins_path(&pins, PINNED_PREVIOUS, path) == 0 && access(path, F_OK) == 0;
}

/*
 * True if the rules in force are those of this load. A guard whose parent died early does not know
 * their generation. Then no other process waits for its own load; for the load of another process,
 * that process waits.
 */
static bool is_ours(const struct rules_confirm *c, const struct rules_store *store)
{
	if (c->generation)
		return store->now->generation == c->generation;
	return !store->held || !rules_wait_is_attended(c->pin_dir);
}

/*
 * Confirms the rules of this generation, or takes them back, if they still wait. Returns 0 if it
 * did, 1 if they are in force and already confirmed, 2 if other rules are in force, or -errno,
 * logged.
 */
static int finish(const struct rules_confirm *c, bool keep)
{
	struct rules_store store = RULES_STORE_NULL;
	struct pins pins = PINS_NULL;
	bool ours;
	int r;

	r = pins_open(c->pin_dir, /* create= */ false, &pins);
	if (r == -ENOENT)
		return 2;
	if (r == 0)
		r = rules_store_open(&pins, &store);
	if (r == 0) {
		ours = is_ours(c, &store);
		if (!ours || !store.held)
			r = ours ? 1 : 2;
		else if (keep)
			rules_store_settle(&store);
		else
			r = rules_store_restore(&store);
	}
	rules_store_close(&store);
	pins_close(&pins);
	return r;
}

/*
 * Reads a line. Enter alone confirms: a user who types "no" does not want to keep the rules. Only a
 * foreground process may call it: one in the background would be stopped.
 */
static enum answer read_terminal(void)
{
	char line[256];
	ssize_t n = read(STDIN_FILENO, line, sizeof(line));

	if (n < 0 && errno == EINTR)
		return ANSWER_NONE;
	if (n <= 0)
		return ANSWER_TAKE_BACK;
	if (n == 1 && *line == '\n')
		return ANSWER_KEEP;
	log_info("press Enter alone to keep the rules, or Ctrl-C to take them back");
	return ANSWER_NONE;
}

/* Waits for at most POLL_MS. */
static enum answer look(const struct rules_confirm *c)
{
	const bool terminal = isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
	struct pollfd fds[] = {
		{ .fd = c->signal_fd, .events = POLLIN },
		{ .fd = terminal ? STDIN_FILENO : -1, .events = POLLIN },
	};
	const uint64_t now_ms = monotonic_coarse_ms();

	if (now_ms >= c->ends_ms)
		return ANSWER_TAKE_BACK;
	if (!is_held(c->pin_dir))
		return ANSWER_GONE;
	if (poll(fds, ARRAY_SIZE(fds), POLL_MS) <= 0)
		return ANSWER_NONE;
	if (fds[0].revents)
		return ANSWER_TAKE_BACK;
	return fds[1].revents ? read_terminal() : ANSWER_NONE;
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
 * messages. If the parent ended before it replaced the rules, no generation comes and the child
 * does nothing.
 */
_Noreturn static void guard(struct rules_confirm *c, int pipe_fd)
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
		rules_wait_begin(c->pin_dir);
	}
	if (owns && is_held(c->pin_dir))
		finish(c, /* keep= */ false);
	_exit(0);
}

static int start_guard(struct rules_confirm *c)
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

int rules_confirm_begin(const struct ctl_options *options, struct rules_confirm *c)
{
	int r;

	*c = (struct rules_confirm){
		.pin_dir = options->pin_dir,
		.timeout_ms = options->confirm_ms,
		.pipe_fd = -1,
		.wait_fd = -1,
		.signal_fd = open_signals(),
	};
	r = c->signal_fd < 0 ? -errno : start_guard(c);
	if (r < 0)
		log_err("cannot wait for a confirmation: %s", strerror(-r));
	return r;
}

static void tell_guard(struct rules_confirm *c, uint32_t generation)
{
	c->generation = generation;
	/* SIGPIPE is ignored. Without a guard, this process alone keeps the time. */
	if (write(c->pipe_fd, &generation, sizeof(generation)) < 0)
		log_warning("the process that would take the rules back after SIGKILL has ended");
}

void rules_confirm_own(struct rules_confirm *c)
{
	tell_guard(c, 0);
}

int rules_confirm_held(struct rules_confirm *c)
{
	c->wait_fd = rules_wait_begin(c->pin_dir);
	if (c->wait_fd < 0)
		log_err("cannot lock '%s/" PINNED_PREVIOUS "': %s", c->pin_dir,
			strerror(-c->wait_fd));
	return c->wait_fd < 0 ? c->wait_fd : 0;
}

static void log_prompt(const struct rules_confirm *c)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)], time[FORMAT_DURATION_LEN];

	log_info(
		"the rules are in force; to keep them, %srun within %s: tproxyctl rules confirm -p %s",
		isatty(STDIN_FILENO) ? "press Enter (Ctrl-C takes them back) or " : "",
		format_duration_ms(c->timeout_ms, time),
		shell_quote(c->pin_dir, quoted, sizeof(quoted)));
}

static int log_outcome(int r, bool keep)
{
	if (r < 0)
		log_err("cannot %s the rules; tproxyctl rules %s does it",
			keep ? "confirm" : "take back", keep ? "confirm" : "revert");
	else if (r == 2)
		log_err("other rules were loaded meanwhile");
	else if (r == 1 || keep)
		log_info("confirmed");
	else
		log_err("not confirmed: the previous rules are in force again");
	return r < 0 ? r : r == 1 || (r == 0 && keep) ? 0 : 1;
}

int rules_confirm_wait(struct rules_confirm *c, uint32_t generation)
{
	enum answer answer = ANSWER_NONE;

	c->ends_ms = monotonic_coarse_ms() + c->timeout_ms;
	tell_guard(c, generation);
	/* Discard keys that were pressed before the question. */
	tcflush(STDIN_FILENO, TCIFLUSH);
	log_prompt(c);
	while (answer == ANSWER_NONE)
		answer = look(c);
	return log_outcome(finish(c, answer == ANSWER_KEEP), answer == ANSWER_KEEP);
}

void rules_confirm_end(struct rules_confirm *c)
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
