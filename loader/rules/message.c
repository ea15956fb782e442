// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Messages about a rule file, see message.h. They are kept, not printed, so that the fuzz target
 * and unit tests can parse without output. All text from the file is escaped when a message is
 * made. If an allocation fails, the message is shortened, but still counted.
 */
#include "message.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "escape.h"
#include "log.h"

/* Columns of the file's line that are shown before the place, and after it. */
#define BEFORE 60
#define AFTER  100

static char *escape(const char *text, size_t len)
{
	const size_t size = ESCAPE_LEN(len);
	char *buf = malloc(size);

	return buf ? escape_text(text, len, buf, size) : NULL;
}

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Returns the width of a byte in the excerpt, where a tab is a blank and others are escaped. */
static size_t width_of(char c)
{
	return c == '\t' || (c >= ' ' && c <= '~') ? 1 : 4;
}

/*
 * Shows a part of the line, with carets below it: message->source and message->caret. @start and
 * @end are the place, as offsets in the line.
 */
static void show_line(struct rules_message *message, const char *line, size_t len, size_t start,
		      size_t end)
{
	const size_t first = start > BEFORE ? start - BEFORE : 0;
	const size_t last = len - start > AFTER ? start + AFTER : len;
	size_t i, n_blanks = 0, n_carets = 0;
	char *copy;

	copy = strndup(line + first, last - first);
	if (!copy)
		return;
	for (i = 0; copy[i]; i++) {
		if (copy[i] == '\t')
			copy[i] = ' ';
	}
	for (i = first; i < start; i++)
		n_blanks += width_of(line[i]);
	for (i = start; i < end && i < last; i++)
		n_carets += width_of(line[i]);
	n_carets = n_carets ? n_carets : 1;
	message->source = escape(copy, last - first);
	message->caret = malloc(n_blanks + n_carets + 1);
	if (message->caret) {
		memset(message->caret, ' ', n_blanks);
		memset(message->caret + n_blanks, '^', n_carets);
		message->caret[n_blanks + n_carets] = '\0';
	}
	free(copy);
}

/*
 * Returns the offset of a column, which counts from 1. For a column past the end it returns the
 * end.
 */
static size_t offset_of(const char *line, size_t len, unsigned int column)
{
	size_t i = 0;

	while (i < len && column > 1) {
		i++;
		while (i < len && is_continuation(line[i]))
			i++;
		column--;
	}
	return i;
}

void rules_message_add(struct rules_messages *messages, bool is_note, const char *file,
		       struct rules_place at, const char *source, size_t source_len,
		       const char *fmt, ...)
{
	size_t *n = is_note ? &messages->n_notes : &messages->n_errors;
	struct rules_message *message = is_note ? messages->notes : messages->errors;
	char *text = NULL;
	size_t start;
	va_list ap;

	if (++*n > RULES_MESSAGES_MAX)
		return;
	message += *n - 1;
	*message = (struct rules_message){ .is_note = is_note, .at = at };
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	message->file = escape(file, strlen(file));
	message->text = text ? escape(text, strlen(text)) : NULL;
	free(text);
	/* The line ends at a NUL too, which escape_text() does not show. */
	source_len = source ? strnlen(source, source_len) : 0;
	if (source && at.line) {
		start = offset_of(source, source_len, at.column);
		show_line(message, source, source_len, start,
			  start + offset_of(source + start, source_len - start, at.len + 1));
	}
}

static const char *or_nothing(const char *text)
{
	return text ? text : "out of memory";
}

/* Writes "FILE:LINE:COLUMN", as far as the place is known. */
static char *format_place(const struct rules_message *m, char *buf, size_t size)
{
	if (!m->at.line)
		snprintf(buf, size, "%s", or_nothing(m->file));
	else if (!m->at.column)
		snprintf(buf, size, "%s:%u", or_nothing(m->file), m->at.line);
	else
		snprintf(buf, size, "%s:%u:%u", or_nothing(m->file), m->at.line, m->at.column);
	return buf;
}

/* Room for a path in which each byte is escaped, and the numbers. */
#define PLACE_LEN (ESCAPE_LEN(4096) + 32)

static void print(const struct rules_message *m, FILE *to)
{
	char place[PLACE_LEN];

	fprintf(to, "%s: %s%s\n", format_place(m, place, sizeof(place)), m->is_note ? "note: " : "",
		or_nothing(m->text));
	if (m->source && m->caret)
		fprintf(to, "  %s\n  %s\n", m->source, m->caret);
}

static size_t kept(size_t n)
{
	return n < RULES_MESSAGES_MAX ? n : RULES_MESSAGES_MAX;
}

void rules_messages_print(const struct rules_messages *messages, FILE *to)
{
	size_t i;

	for (i = 0; i < kept(messages->n_notes); i++)
		print(&messages->notes[i], to);
	for (i = 0; i < kept(messages->n_errors); i++)
		print(&messages->errors[i], to);
	if (messages->n_errors > RULES_MESSAGES_MAX)
		fprintf(to, "%zu more errors\n", messages->n_errors - RULES_MESSAGES_MAX);
}

static void log_message(const struct rules_message *m)
{
	char place[PLACE_LEN];

	log_print(m->is_note ? LOG_LEVEL_WARNING : LOG_LEVEL_ERR, "%s: %s",
		  format_place(m, place, sizeof(place)), or_nothing(m->text));
}

void rules_messages_log(const struct rules_messages *messages)
{
	size_t i;

	for (i = 0; i < kept(messages->n_notes); i++)
		log_message(&messages->notes[i]);
	for (i = 0; i < kept(messages->n_errors); i++)
		log_message(&messages->errors[i]);
	if (messages->n_errors > RULES_MESSAGES_MAX)
		log_err("%zu more errors in the rules", messages->n_errors - RULES_MESSAGES_MAX);
}

static void finish(struct rules_message *m)
{
	free(m->file);
	free(m->text);
	free(m->source);
	free(m->caret);
}

void rules_messages_finish(struct rules_messages *messages)
{
	size_t i;

	for (i = 0; i < kept(messages->n_notes); i++)
		finish(&messages->notes[i]);
	for (i = 0; i < kept(messages->n_errors); i++)
		finish(&messages->errors[i]);
	*messages = (struct rules_messages){};
}
