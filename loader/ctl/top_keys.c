// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl top: what a key does. A prompt is a state of the screen, so samples and resizes go on
 * meanwhile, and keys belong to its answer.
 */
#include "top_keys.h"

#include <curses.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "top_delay.h"
#include "top_draw.h"
#include "top_source.h"
#include "top_state.h"

#define KEY_ESCAPE 27
/* Columns of text that the left and right keys scroll. */
#define SHIFT_STEP 8

static void sort_by(struct top_screen *s, int steps)
{
	struct top_view *view = &s->top->view;

	view->sort = top_table_move(view->by, view->sort, steps);
	view->reversed = false;
}

static void set_by(struct top_screen *s, enum top_by by)
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
	const long page = top_draw_table_lines() > 1 ? (long)top_draw_table_lines() - 1 : 1;

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

static void begin_prompt(struct top_screen *s, enum prompt prompt)
{
	s->prompt = prompt;
	s->answer[0] = '\0';
}

static void set_delay(struct top_screen *s)
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

static void take_answer(struct top_screen *s)
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

static void key_in_prompt(struct top_screen *s, int key)
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

static void show_everything(struct top_screen *s)
{
	struct top_view *view = &s->top->view;

	view->text[0] = view->user[0] = '\0';
	view->busy_only = false;
}

/* Returns true if the key selects what the lines are. */
static bool key_of_view(struct top_screen *s, int key)
{
	if (key == '\t')
		set_by(s, (s->top->view.by + 1) % _TOP_BY_MAX);
	else if (key >= '1' && key < '1' + _TOP_BY_MAX)
		set_by(s, (enum top_by)(key - '1'));
	else
		return false;
	return true;
}

static void key_of_table(struct top_screen *s, int key)
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

void top_key(struct top_screen *s, int key)
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
