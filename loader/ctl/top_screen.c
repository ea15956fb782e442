// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl top: the screen, with the habits of top(1). One loop waits for a key (top_keys.c), a
 * signal or the time of the next sample, and then draws everything again (top_draw.c).
 *
 * Signals are blocked except while the loop waits. SIGTERM and the like end the loop, restore the
 * terminal and take effect after that. So does SIGTSTP, and the loop goes on after it. ncurses
 * would handle SIGTSTP too, but ignores it while it draws, which also drops one that is blocked.
 */
#include "top_screen.h"

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "monotonic.h"
#include "top_draw.h"
#include "top_keys.h"
#include "top_state.h"
#include "util.h"

static volatile sig_atomic_t ended_by, stopped;

static void on_end(int number)
{
	ended_by = number;
}

static void on_stop(int number)
{
	stopped = 1;
}

/* Its delivery ends ppoll(); the loop then asks for the size. */
static void on_resize(int number)
{
}

static const struct {
	int number;
	void (*handler)(int number);
} caught[] = {
	{ SIGINT, on_end },  { SIGTERM, on_end },  { SIGHUP, on_end },
	{ SIGQUIT, on_end }, { SIGTSTP, on_stop }, { SIGWINCH, on_resize },
};

/*
 * Blocks the signals that the loop handles, and sets *ret_waiting to the mask for the time when it
 * waits. A signal that the caller ignores (nohup(1)) stays ignored. ncurses leaves alone a signal
 * that has a handler when it starts.
 */
static void catch_signals(sigset_t *ret_waiting)
{
	struct sigaction action = {}, before;
	sigset_t blocked;
	size_t i;

	sigemptyset(&blocked);
	for (i = 0; i < ARRAY_SIZE(caught); i++) {
		if (sigaction(caught[i].number, NULL, &before) < 0 || before.sa_handler == SIG_IGN)
			continue;
		action.sa_handler = caught[i].handler;
		sigaction(caught[i].number, &action, NULL);
		sigaddset(&blocked, caught[i].number);
	}
	sigprocmask(SIG_BLOCK, &blocked, ret_waiting);
	for (i = 0; i < ARRAY_SIZE(caught); i++)
		sigdelset(ret_waiting, caught[i].number);
}

/* Gives the terminal back and stops, until SIGCONT. The next refresh() restores the screen. */
static void stop(const sigset_t *waiting)
{
	struct sigaction action = { .sa_handler = SIG_DFL }, ours;
	sigset_t blocked;

	stopped = 0;
	endwin();
	sigaction(SIGTSTP, &action, &ours);
	raise(SIGTSTP);
	/* The signal is blocked, and takes effect here. */
	sigprocmask(SIG_SETMASK, waiting, &blocked);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	sigaction(SIGTSTP, &ours, NULL);
}

/* SIGINT is a way to quit. The other signals end the process as if they had not been caught. */
static int end_by_signal(const sigset_t *waiting)
{
	if (!ended_by || ended_by == SIGINT)
		return EXIT_SUCCESS;
	signal(ended_by, SIG_DFL);
	raise(ended_by);
	sigprocmask(SIG_SETMASK, waiting, NULL);
	return EXIT_FAILURE;
}

/* --- the loop */

/*
 * The size may also have changed while the process was stopped. A terminal that reports no size
 * keeps the one that ncurses assumed.
 */
static void follow_size(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
		return;
	if (size.ws_row != LINES || size.ws_col != COLS)
		resizeterm(size.ws_row, size.ws_col);
}

static void take_sample(struct top_screen *s)
{
	const uint64_t now = monotonic_kernel_ns() / 1000000;

	if (s->next_ms && (s->frozen || now < s->next_ms))
		return;
	s->top->sample(s->top);
	s->next_ms = now + s->top->delay_ms;
}

/* Waits until something happens. Returns false if the terminal is gone. */
static bool wait_for_key(const struct top_screen *s, const sigset_t *waiting)
{
	const uint64_t now = monotonic_kernel_ns() / 1000000;
	const uint64_t ms = s->next_ms > now ? s->next_ms - now : 0;
	struct timespec timeout = { .tv_sec = (time_t)(ms / 1000),
				    .tv_nsec = (long)(ms % 1000) * 1000000 };
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };

	ppoll(&input, 1, s->frozen && s->next_ms ? NULL : &timeout, waiting);
	return !(input.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static int loop(struct top_screen *s, const sigset_t *waiting)
{
	int key, r;

	while (!s->quit && !ended_by) {
		if (stopped)
			stop(waiting);
		follow_size();
		take_sample(s);
		r = top_draw(s);
		if (r < 0)
			return r;
		if (!wait_for_key(s, waiting))
			return -EIO;
		while (!s->quit && (key = getch()) != ERR)
			top_key(s, key);
	}
	return 0;
}

static bool start_screen(SCREEN **ret_terminal)
{
	const char *name = getenv("TERM");

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		log_err("top needs a terminal as stdin and stdout; otherwise use --once or --json");
		return false;
	}
	/* Unlike initscr(3), which would end the process. */
	*ret_terminal = newterm(NULL, stdout, stdin);
	if (!*ret_terminal) {
		log_err("the terminal '%s' is unknown: set TERM, or use --once or --json",
			name ? name : "");
		return false;
	}
	if (!tigetstr("cup")) {
		endwin();
		delscreen(*ret_terminal);
		log_err("the terminal '%s' cannot move its cursor: set TERM, or use --once or --json",
			name ? name : "");
		return false;
	}
	set_escdelay(25);
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	leaveok(stdscr, FALSE);
	top_draw_start();
	return true;
}

int top_screen(struct top *top)
{
	struct top_screen s = { .top = top };
	SCREEN *terminal;
	sigset_t waiting;
	int r;

	catch_signals(&waiting);
	if (!start_screen(&terminal))
		return EXIT_FAILURE;
	r = loop(&s, &waiting);
	endwin();
	delscreen(terminal);
	if (r < 0) {
		log_err("top ended: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	return end_by_signal(&waiting);
}
