// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl rules load --confirm: waits, see rules.h.
 *
 * A user who applies rules over the network may cut off the own connection by them. So the rules
 * are taken back unless they are confirmed: by Enter at the terminal, or by `tproxyctl rules
 * confirm`, which removes the pin of the rules before. SIGINT, the end of the terminal and every
 * other end of this process take them back at once. For SIGKILL there is a child in a session of
 * its own, the guard. It holds a pipe to this process, and acts when the pipe is closed.
 *
 * The process does not stop: a stopped one could not keep the time.
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
#include "parse.h"
#include "quote.h"
#include "state/pins.h"
#include "state/rules_store.h"
#include "tproxy_abi.h"
#include "util.h"

/* How often the pin of the rules before is looked for. */
#define POLL_MS 100
/* The guard waits this much longer than its parent. */
#define GUARD_EXTRA_MS 5000

enum answer {
	ANSWER_NONE,
	ANSWER_KEEP,	  /* Enter */
	ANSWER_TAKE_BACK, /* a signal, the end of the terminal, the time is over */
	ANSWER_GONE,	  /* another process has confirmed, or replaced the rules */
};

struct wait {
	const char *pin_dir;
	uint32_t generation;
	uint64_t ends_ms;
	int signal_fd;
};

static bool is_held(const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	char path[PATH_MAX];

	return pins_path(&pins, PINNED_PREVIOUS, path) == 0 && access(path, F_OK) == 0;
}

/*
 * Confirms, or takes back, if the rules of this generation still wait. Returns 0 if it did that, 1
 * if they are in force and confirmed, 2 if others are in force, or -errno, logged.
 */
static int finish(const struct wait *w, bool keep)
{
	struct rules_store store = RULES_STORE_NULL;
	struct pins pins = PINS_NULL;
	bool ours;
	int r;

	r = pins_open(w->pin_dir, /* create= */ false, &pins);
	if (r == -ENOENT)
		return 2;
	if (r == 0)
		r = rules_store_open(&pins, &store);
	if (r == 0) {
		ours = store.now->generation == w->generation;
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

/* Reads a line. A process in the background must not read: it would be stopped. */
static enum answer read_terminal(void)
{
	char line[256];
	ssize_t n = read(STDIN_FILENO, line, sizeof(line));

	if (n < 0 && errno == EINTR)
		return ANSWER_NONE;
	return n > 0 ? ANSWER_KEEP : ANSWER_TAKE_BACK;
}

/* Waits for at most POLL_MS. */
static enum answer look(const struct wait *w)
{
	const bool terminal = isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
	struct pollfd fds[] = {
		{ .fd = w->signal_fd, .events = POLLIN },
		{ .fd = terminal ? STDIN_FILENO : -1, .events = POLLIN },
	};
	const uint64_t now_ms = monotonic_coarse_ms();

	if (now_ms >= w->ends_ms)
		return ANSWER_TAKE_BACK;
	if (!is_held(w->pin_dir))
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
	/* The terminal may be gone by the time that something is printed. */
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* The child: waits for the end of its parent. What it does nobody reads. */
_Noreturn static void guard(const struct wait *w, int pipe_fd)
{
	struct pollfd pollfd = { .fd = pipe_fd };

	setsid();
	while (poll(&pollfd, 1, (int)(w->ends_ms + GUARD_EXTRA_MS - monotonic_coarse_ms())) < 0 &&
	       errno == EINTR)
		;
	finish(w, /* keep= */ false);
	_exit(0);
}

/* Starts the guard. Returns its PID and the end of the pipe that keeps it waiting, or -errno. */
static pid_t start_guard(const struct wait *w, int *ret_fd)
{
	int fds[2], r;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	r = -errno;
	if (pid == 0) {
		close(fds[1]);
		guard(w, fds[0]);
	}
	close(fds[0]);
	if (pid < 0) {
		close(fds[1]);
		return r;
	}
	*ret_fd = fds[1];
	return pid;
}

static void log_prompt(const struct wait *w, uint64_t timeout_ms)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)], time[FORMAT_DURATION_LEN];

	log_info(
		"the rules are in force; to keep them, %srun within %s: tproxyctl rules confirm -p %s",
		isatty(STDIN_FILENO) ? "press Enter (Ctrl-C takes them back) or " : "",
		format_duration_ms(timeout_ms, time),
		shell_quote(w->pin_dir, quoted, sizeof(quoted)));
}

static int log_outcome(int r, bool keep)
{
	if (r < 0)
		log_err("cannot %s the rules; the next load, confirm or revert will",
			keep ? "confirm" : "take back");
	else if (r == 2)
		log_err("other rules were loaded meanwhile");
	else if (r == 1 || keep)
		log_info("confirmed");
	else
		log_err("not confirmed: the rules before are in force again");
	return r < 0 ? r : r == 1 || (r == 0 && keep) ? 0 : 1;
}

int rules_confirm_wait(const char *pin_dir, uint32_t generation, uint64_t timeout_ms)
{
	struct wait w = {
		.pin_dir = pin_dir,
		.generation = generation,
		.ends_ms = monotonic_coarse_ms() + timeout_ms,
		.signal_fd = open_signals(),
	};
	enum answer answer = ANSWER_NONE;
	int pipe_fd = -1, r;
	pid_t pid;

	pid = start_guard(&w, &pipe_fd);
	if (pid < 0 || w.signal_fd < 0) {
		log_err("cannot wait for the confirmation: %s", strerror(pid < 0 ? -pid : errno));
		answer = ANSWER_TAKE_BACK;
	} else {
		/* Keys that were pressed before the question are no answer. */
		tcflush(STDIN_FILENO, TCIFLUSH);
		log_prompt(&w, timeout_ms);
	}
	while (answer == ANSWER_NONE)
		answer = look(&w);
	r = log_outcome(finish(&w, answer == ANSWER_KEEP), answer == ANSWER_KEEP);
	util_closep(&pipe_fd);
	util_closep(&w.signal_fd);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return r;
}
