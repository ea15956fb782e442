// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Messages with the line that they are about, see source.h. Lines are found by their number. */
#include "source.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Returns the line of this number, without its end, or NULL. Counts from 1. */
static const char *find_line(const struct source *source, unsigned int number, size_t *ret_len)
{
	const char *line = source->text, *end = line + source->len, *newline;

	if (!number)
		return NULL;
	while (line < end && --number) {
		newline = memchr(line, '\n', (size_t)(end - line));
		line = newline ? newline + 1 : end;
	}
	newline = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;
	*ret_len = (size_t)((newline ? newline : end) - line);
	if (*ret_len && line[*ret_len - 1] == '\r')
		--*ret_len;
	return line;
}

static void _printf_(4, 0) add(const struct source *source, struct rules_place at, bool is_note,
			       const char *fmt, va_list ap)
{
	size_t *n = is_note ? &source->messages->n_notes : &source->messages->n_errors;
	char *text = NULL;
	const char *line;
	size_t len = 0;

	/* A list may have a million wrong lines, of which only the first are shown. */
	if (*n >= RULES_MESSAGES_MAX) {
		++*n;
		return;
	}
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	line = find_line(source, at.line, &len);
	rules_message_add(source->messages, is_note, source->file, at, line, len, "%s",
			  text ? text : "out of memory");
	free(text);
}

void source_error(const struct source *source, struct rules_place at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(source, at, false, fmt, ap);
	va_end(ap);
}

void source_note(const struct source *source, struct rules_place at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(source, at, true, fmt, ap);
	va_end(ap);
}
