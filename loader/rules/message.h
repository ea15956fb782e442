/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Errors in a rule file, and notes for its author. Each message has a place in the file. Rules with
 * an error cannot be used; notes do no harm.
 */
#ifndef TPROXY_RULES_MESSAGE_H
#define TPROXY_RULES_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "util.h"

/* Limit of errors that are kept, and of notes. Further ones are only counted. */
#define RULES_MESSAGES_MAX 20

/* A place in a file. The column counts characters from 1; a tab is one. */
struct rules_place {
	unsigned int line; /* from 1; 0: the file as a whole */
	unsigned int column;
	unsigned int len; /* characters to underline; 0 is as 1 */
};

struct rules_message {
	bool is_note;
	char *file;
	struct rules_place at;
	char *text;   /* printable ASCII, one line */
	char *source; /* the line of the file, escaped; NULL: not shown */
	char *caret;  /* blanks up to the place in source, then carets; NULL without source */
};

struct rules_messages {
	struct rules_message errors[RULES_MESSAGES_MAX], notes[RULES_MESSAGES_MAX];
	size_t n_errors, n_notes; /* may exceed RULES_MESSAGES_MAX */
};

/* Prints "FILE:LINE:COLUMN: TEXT", then the line and a caret below it, for each message. */
void rules_messages_print(const struct rules_messages *messages, FILE *to);
/* Logs each message in one line: errors as errors, notes as warnings. */
void rules_messages_log(const struct rules_messages *messages);
void rules_messages_finish(struct rules_messages *messages);

/*
 * Adds a message about @file. source is the line at this place, of source_len bytes, or NULL. The
 * text may contain any bytes; what is not printable ASCII is escaped.
 */
void rules_message_add(struct rules_messages *messages, bool is_note, const char *file,
		       struct rules_place at, const char *source, size_t source_len,
		       const char *fmt, ...) _printf_(7, 8);

#endif
