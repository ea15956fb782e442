// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl top: what the screen shows. Everything is drawn again each time; ncurses sends the
 * terminal what has changed. All text is printable ASCII (names are escaped), so no locale is
 * needed.
 */
#include "top_draw.h"

#include <curses.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "parse.h"
#include "top_state.h"
#include "util.h"

/* Lines above the first line of the table: sum, settings, message, titles. */
#define HEAD_LINES 4

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

enum colour {
	COLOUR_NOTE = 1,
	COLOUR_UNSETTLED,
};

void top_draw_start(void)
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

static void draw_sum(const struct top_screen *s)
{
	char row[TOP_ROW_LEN], text[TOP_ROW_LEN + 32], clock[16] = "";
	time_t now = time(NULL);
	struct tm tm;

	if (localtime_r(&now, &tm))
		strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s  %s", clock, top_table_sum(&s->top->table, &s->sum, row));
	draw(0, A_NORMAL, text, 0);
}

static void draw_settings(const struct top_screen *s)
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
static void draw_message(const struct top_screen *s)
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

size_t top_draw_table_lines(void)
{
	return LINES > HEAD_LINES ? (size_t)LINES - HEAD_LINES : 0;
}

static void draw_table(struct top_screen *s)
{
	struct top_table *table = &s->top->table;
	size_t i, shown = top_draw_table_lines();
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

static void draw_help(struct top_screen *s)
{
	size_t lines = LINES > 0 ? (size_t)LINES : 0, n = ARRAY_SIZE(help), i;

	if (s->help_first + lines > n)
		s->help_first = n > lines ? n - lines : 0;
	for (i = s->help_first; i < n; i++)
		draw((int)(i - s->help_first), A_NORMAL, help[i], 0);
}

int top_draw(struct top_screen *s)
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
