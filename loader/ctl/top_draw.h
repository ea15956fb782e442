/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the screen of `tproxyctl top` shows. */
#ifndef TPROXY_CTL_TOP_DRAW_H
#define TPROXY_CTL_TOP_DRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "top_model.h"

struct top;

enum prompt {
	PROMPT_NONE,
	PROMPT_DELAY,
	PROMPT_USER,
	PROMPT_TEXT,
};

struct top_screen {
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

/* Starts colours. Without them, and with NO_COLOR in the environment, the text alone tells all. */
void top_draw_start(void);
/* Draws everything again. Returns 0 or -ENOMEM. */
int top_draw(struct top_screen *s);
/* Returns the number of lines of the table that the terminal has room for. */
size_t top_draw_table_lines(void);

#endif
