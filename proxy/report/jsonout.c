// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See jsonout.h. The stream keeps the error of a write, for its owner. */
#include "jsonout.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "escape.h"

/* Writes the comma before a member, and its key. */
static void begin_member(struct jsonout *json, const char *key)
{
	if (json->has_members[json->depth - 1])
		putc(',', json->out);
	json->has_members[json->depth - 1] = true;
	if (key)
		fprintf(json->out, "\"%s\":", key);
}

static void open_level(struct jsonout *json, char begin, char end)
{
	assert(json->depth < JSON_DEPTH_MAX);
	putc(begin, json->out);
	json->has_members[json->depth] = false;
	json->end[json->depth++] = end;
}

void jsonout_begin(struct jsonout *json, FILE *out)
{
	*json = (struct jsonout){ .out = out };
	open_level(json, '{', '}');
}

void jsonout_object(struct jsonout *json, const char *key)
{
	begin_member(json, key);
	open_level(json, '{', '}');
}

void jsonout_array(struct jsonout *json, const char *key)
{
	begin_member(json, key);
	open_level(json, '[', ']');
}

void jsonout_end(struct jsonout *json)
{
	putc(json->end[--json->depth], json->out);
	if (json->depth == 0)
		putc('\n', json->out);
}

void jsonout_text(struct jsonout *json, const char *key, const char *text)
{
	char part[ESCAPE_LEN(1)];
	const char *c;

	begin_member(json, key);
	if (!text) {
		fputs("null", json->out);
		return;
	}
	putc('"', json->out);
	for (; *text; text++) {
		for (c = escape_text(text, 1, part, sizeof(part)); *c; c++) {
			if (*c == '"' || *c == '\\')
				fprintf(json->out, "\\%c", *c);
			else if (strchr("<>&", *c))
				fprintf(json->out, "\\u%04x", (unsigned int)*c);
			else
				putc(*c, json->out);
		}
	}
	putc('"', json->out);
}

void jsonout_number(struct jsonout *json, const char *key, uint64_t value)
{
	begin_member(json, key);
	fprintf(json->out, "%" PRIu64, value);
}

void jsonout_bool(struct jsonout *json, const char *key, bool value)
{
	begin_member(json, key);
	fputs(value ? "true" : "false", json->out);
}
