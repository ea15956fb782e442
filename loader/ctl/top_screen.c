// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl top: the screen, with the habits of top(1). One loop waits for a key, a signal or the
 * time of the next sample, and then draws everything again; ncurses sends the terminal what has
 * changed. Prompts are a state of this loop, so samples and resizes go on meanwhile. All text is
 * printable ASCII (names are escaped), so no locale is needed.
 *
 * Signals are blocked except while the loop waits. SIGTERM and the like end the loop, restore the
 * terminal and take effect after that. So does SIGTSTP, and the loop goes on after it. ncurses
 * would handle SIGTSTP too, but ignores it while it draws, which also drops one that is blocked.
 */
#include "top_screen.h"

#include <curses.h>
#include <errno.h>
#include <netinet/tcp.h>
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
#include "parse.h"
#include "top_source.h"
#include "top_state.h"
#include "util.h"

#define KEY_ESCAPE 27
/* Columns of text that the left and right keys scroll. */
#define SHIFT_STEP 8
/* Lines above the first line of the table: sum, settings, message, titles. */
#define HEAD_LINES 4

enum prompt {
	PROMPT_NONE,
	PROMPT_DELAY,
	PROMPT_USER,
	PROMPT_TEXT,
};

static const char *const prompt_texts[] = {
	[PROMPT_DELAY] = "Delay in seconds: ",
	[PROMPT_USER] = "User, by name or number (empty: all): ",
	[PROMPT_TEXT] = "Only connections that have the text (empty: all): ",
};

static const char *const help[] = {
	"q          quit",
	"space      take a sample now",
	"d s        delay between samples",
	"p f        freeze, and go on",
	"1          by connection",
	"2          by program",
	"3          by destination",
	"4          by cgroup",
	"5          by user",
	"6          traffic by cgroup: packets and bytes of all sockets",
	"tab        by the next of these",
	"< >        sort by the column to the left, to the right",
	"R          reverse the order",
	"/ o        only connections that have a text",
	"u          only connections of a user",
	"i          hide lines without traffic",
	"=          show everything again",
	"arrows     scroll; also page up, page down, home, end",
	"h ?        this help; any other key leaves it",
};

struct screen {
	struct top *top;
	const struct top_line *lines;
	size_t n;
	struct top_line sum;
	size_t first; /* the line at the top of the table */
	size_t shift; /* columns that are scrolled out to the left */
	bool frozen, helping, quit;
	size_t help_first;
	enum prompt prompt;
	char answer[64];
	char message[128]; /* shown until the next key */
	uint64_t next_ms;
};

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

/* --- drawing */

enum colour {
	COLOUR_NOTE = 1,
	COLOUR_UNSETTLED,
};

/* Without colours, and with NO_COLOR in the environment, the text alone tells everything. */
static void start_colours(void)
{
	const char *unwanted = getenv("NO_COLOR");

	if ((unwanted && *unwanted) || !has_colors() || start_color() == ERR ||
	    use_default_colors() == ERR)
		return;
	init_pair(COLOUR_NOTE, COLOR_RED, -1);
	init_pair(COLOUR_UNSETTLED, COLOR_YELLOW, -1);
}

static attr_t colour(enum colour pair)
{
	return COLOR_PAIRS > COLOUR_UNSETTLED ? (attr_t)COLOR_PAIR(pair) : A_NORMAL;
}

/* Draws the part of a text that is to the right of @shift, as far as the line goes. */
static void draw(int line, attr_t attributes, const char *text, size_t shift)
{
	size_t len = strlen(text);

	if (line >= LINES)
		return;
	attrset((int)attributes);
	move(line, 0);
	if (shift < len)
		addnstr(text + shift, COLS);
	if (attributes & A_REVERSE)
		hline(' ' | A_REVERSE, COLS);
	attrset(A_NORMAL);
}

static void draw_sum(const struct screen *s)
{
	char row[TOP_ROW_LEN], text[TOP_ROW_LEN + 32], clock[16] = "";
	time_t now = time(NULL);
	struct tm tm;

	if (localtime_r(&now, &tm))
		strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s  %s", clock, top_table_sum(&s->top->table, &s->sum, row));
	draw(0, A_NORMAL, text, 0);
}

static void draw_settings(const struct screen *s)
{
	const struct top_view *view = &s->top->view;
	char text[512], delay[FORMAT_DURATION_LEN];

	snprintf(text, sizeof(text), "%sby %s, sorted by %s%s, every %s%s%s%s%s%s%s; h: help",
		 s->frozen ? "FROZEN; " : "", top_by_names[view->by], top_table_title(view->sort),
		 view->reversed ? " reversed" : "", format_duration_ms(s->top->delay_ms, delay),
		 *view->text ? "; only \"" : "", view->text, *view->text ? "\"" : "",
		 *view->user ? "; user " : "", view->user, view->busy_only ? "; busy only" : "");
	draw(1, s->frozen ? A_BOLD : A_NORMAL, text, 0);
}

/* The prompt, otherwise a message about a key, otherwise the note of the sample. */
static void draw_message(const struct screen *s)
{
	char text[256];

	if (s->prompt != PROMPT_NONE) {
		snprintf(text, sizeof(text), "%s%s", prompt_texts[s->prompt], s->answer);
		/* The end of the answer stays visible on a narrow terminal. */
		draw(2, A_BOLD, text,
		     strlen(text) < (size_t)COLS ? 0 : strlen(text) - (size_t)COLS + 1);
	} else if (*s->message) {
		draw(2, A_BOLD, s->message, 0);
	} else {
		draw(2, A_BOLD | colour(COLOUR_NOTE), s->top->note, 0);
	}
}

static size_t table_lines(void)
{
	return LINES > HEAD_LINES ? (size_t)LINES - HEAD_LINES : 0;
}

static void draw_table(struct screen *s)
{
	struct top_table *table = &s->top->table;
	size_t i, shown = table_lines();
	char row[TOP_ROW_LEN];

	if (s->first + shown > s->n)
		s->first = s->n > shown ? s->n - shown : 0;
	if (shown > s->n - s->first)
		shown = s->n - s->first;
	top_table_measure(table, s->lines + s->first, shown);
	draw(HEAD_LINES - 1, A_REVERSE, top_table_head(table, row), s->shift);
	for (i = 0; i < shown; i++) {
		const struct top_line *line = &s->lines[s->first + i];
		attr_t attributes = line->recent.tx || line->recent.rx ? A_BOLD : A_NORMAL;

		if (table->by == TOP_BY_CONNECTION && line->conn->state > TCP_ESTABLISHED)
			attributes |= colour(COLOUR_UNSETTLED);
		draw(HEAD_LINES + (int)i, attributes, top_table_row(table, line, row), s->shift);
	}
}

static void draw_help(struct screen *s)
{
	size_t lines = LINES > 0 ? (size_t)LINES : 0, n = ARRAY_SIZE(help), i;

	if (s->help_first + lines > n)
		s->help_first = n > lines ? n - lines : 0;
	for (i = s->help_first; i < n; i++)
		draw((int)(i - s->help_first), A_NORMAL, help[i], 0);
}

static int redraw(struct screen *s)
{
	int r = top_model_view(s->top->model, &s->top->view, &s->lines, &s->n, &s->sum);

	if (r < 0)
		return r;
	erase();
	if (s->helping) {
		draw_help(s);
	} else {
		draw_table(s);
		draw_sum(s);
		draw_settings(s);
		draw_message(s);
	}
	move(LINES > 2 ? 2 : 0, 0);
	refresh();
	return 0;
}

/* --- keys */

static void sort_by(struct screen *s, int steps)
{
	struct top_view *view = &s->top->view;

	view->sort = top_table_move(view->by, view->sort, steps);
	view->reversed = false;
}

static void set_by(struct screen *s, enum top_by by)
{
	struct top_view *view = &s->top->view;

	if (by == TOP_BY_TRAFFIC && !s->top->has_traffic) {
		snprintf(s->message, sizeof(s->message),
			 "Traffic can be filtered by --cgroup only");
		return;
	}
	if ((by == TOP_BY_TRAFFIC) != (view->by == TOP_BY_TRAFFIC))
		s->next_ms = 0;
	top_source_select(s->top, by);
	s->first = s->shift = 0;
	if (!top_table_has(by, view->sort)) {
		view->sort = TOP_RATE;
		view->reversed = false;
	}
}

static void scroll_lines(size_t *first, long lines)
{
	if (lines < 0 && *first < (size_t)-lines)
		*first = 0;
	else
		*first += (size_t)lines;
}

/* Returns true if the key scrolls. The end of the list is found when it is drawn. */
static bool scroll_by_key(size_t *first, int key)
{
	const long page = table_lines() > 1 ? (long)table_lines() - 1 : 1;

	switch (key) {
	case KEY_UP:
		scroll_lines(first, -1);
		return true;
	case KEY_DOWN:
		scroll_lines(first, 1);
		return true;
	case KEY_PPAGE:
		scroll_lines(first, -page);
		return true;
	case KEY_NPAGE:
		scroll_lines(first, page);
		return true;
	case KEY_HOME:
		*first = 0;
		return true;
	case KEY_END:
		*first = SIZE_MAX / 2;
		return true;
	default:
		return false;
	}
}

static void begin_prompt(struct screen *s, enum prompt prompt)
{
	s->prompt = prompt;
	s->answer[0] = '\0';
}

static void set_delay(struct screen *s)
{
	uint64_t ms;

	if (top_parse_delay(s->answer, &ms) < 0) {
		snprintf(s->message, sizeof(s->message),
			 "'%s' is not a number of seconds from 0.1 to 3600", s->answer);
		return;
	}
	s->next_ms += ms - s->top->delay_ms;
	s->top->delay_ms = ms;
}

static void take_answer(struct screen *s)
{
	struct top_view *view = &s->top->view;

	if (s->prompt == PROMPT_DELAY && *s->answer)
		set_delay(s);
	else if (s->prompt == PROMPT_USER)
		snprintf(view->user, sizeof(view->user), "%s", s->answer);
	else if (s->prompt == PROMPT_TEXT)
		snprintf(view->text, sizeof(view->text), "%s", s->answer);
	s->first = 0;
	s->prompt = PROMPT_NONE;
}

static void key_in_prompt(struct screen *s, int key)
{
	size_t len = strlen(s->answer);

	if (key == KEY_ESCAPE) {
		s->prompt = PROMPT_NONE;
	} else if (key == '\n' || key == '\r' || key == KEY_ENTER) {
		take_answer(s);
	} else if (key == KEY_BACKSPACE || key == '\b' || key == 0x7f) {
		s->answer[len ? len - 1 : 0] = '\0';
	} else if (key == ('U' & 0x1f)) {
		s->answer[0] = '\0';
	} else if (key >= 0x20 && key < 0x7f && len + 1 < sizeof(s->answer)) {
		s->answer[len] = (char)key;
		s->answer[len + 1] = '\0';
	}
}

static void show_everything(struct screen *s)
{
	struct top_view *view = &s->top->view;

	view->text[0] = view->user[0] = '\0';
	view->busy_only = false;
}

/* Returns true if the key selects what the lines are. */
static bool key_of_view(struct screen *s, int key)
{
	if (key == '\t')
		set_by(s, (s->top->view.by + 1) % _TOP_BY_MAX);
	else if (key >= '1' && key < '1' + _TOP_BY_MAX)
		set_by(s, (enum top_by)(key - '1'));
	else
		return false;
	return true;
}

static void key_of_table(struct screen *s, int key)
{
	switch (key) {
	case ' ':
	case '\n':
	case '\r':
		s->next_ms = 0;
		break;
	case 'd':
	case 's':
		begin_prompt(s, PROMPT_DELAY);
		break;
	case 'u':
		begin_prompt(s, PROMPT_USER);
		break;
	case '/':
	case 'o':
		begin_prompt(s, PROMPT_TEXT);
		break;
	case '<':
		sort_by(s, -1);
		break;
	case '>':
		sort_by(s, 1);
		break;
	case 'R':
		s->top->view.reversed = !s->top->view.reversed;
		break;
	case 'i':
		s->top->view.busy_only = !s->top->view.busy_only;
		break;
	case '=':
		show_everything(s);
		break;
	case KEY_LEFT:
		s->shift -= s->shift < SHIFT_STEP ? s->shift : SHIFT_STEP;
		break;
	case KEY_RIGHT:
		s->shift += s->shift < TOP_ROW_LEN ? SHIFT_STEP : 0;
		break;
	case KEY_RESIZE:
		break;
	default:
		if (!scroll_by_key(&s->first, key))
			snprintf(s->message, sizeof(s->message), "Unknown key; h: help");
	}
}

static void handle_key(struct screen *s, int key)
{
	s->message[0] = '\0';
	if (s->prompt != PROMPT_NONE) {
		key_in_prompt(s, key);
	} else if (key == 'q' || key == 'Q') {
		s->quit = true;
	} else if (key == 'h' || key == '?') {
		s->helping = !s->helping;
		s->help_first = 0;
	} else if (s->helping) {
		s->helping = key == KEY_RESIZE || scroll_by_key(&s->help_first, key);
	} else if (key == 'p' || key == 'f') {
		s->frozen = !s->frozen;
	} else if (!key_of_view(s, key)) {
		key_of_table(s, key);
	}
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

static void take_sample(struct screen *s)
{
	const uint64_t now = monotonic_kernel_ns() / 1000000;

	if (s->next_ms && (s->frozen || now < s->next_ms))
		return;
	s->top->sample(s->top);
	s->next_ms = now + s->top->delay_ms;
}

/* Waits until something happens. Returns false if the terminal is gone. */
static bool wait_for_key(const struct screen *s, const sigset_t *waiting)
{
	const uint64_t now = monotonic_kernel_ns() / 1000000;
	const uint64_t ms = s->next_ms > now ? s->next_ms - now : 0;
	struct timespec timeout = { .tv_sec = (time_t)(ms / 1000),
				    .tv_nsec = (long)(ms % 1000) * 1000000 };
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };

	ppoll(&input, 1, s->frozen && s->next_ms ? NULL : &timeout, waiting);
	return !(input.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static int loop(struct screen *s, const sigset_t *waiting)
{
	int key, r;

	while (!s->quit && !ended_by) {
		if (stopped)
			stop(waiting);
		follow_size();
		take_sample(s);
		r = redraw(s);
		if (r < 0)
			return r;
		if (!wait_for_key(s, waiting))
			return -EIO;
		while (!s->quit && (key = getch()) != ERR)
			handle_key(s, key);
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
	start_colours();
	return true;
}

int top_screen(struct top *top)
{
	struct screen s = { .top = top };
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
