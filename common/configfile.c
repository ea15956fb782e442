// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See configfile.h. libinih tells lines by number only after the whole file, so we count. */
#include "configfile.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "util.h"

static const char *const sections[] = { "load", "relay" };

struct reader {
	const char *path;
	const char *section;
	int (*set)(void *data, const char *key, const char *value,
		   char error[CONFIGFILE_ERROR_LEN]);
	void *data;
	FILE *file;
	unsigned int line;
	unsigned int error_line; /* of the first message */
};

static void line_error(struct reader *reader, const char *what)
{
	log_err("%s:%u: %s", reader->path, reader->line, what);
	if (!reader->error_line)
		reader->error_line = reader->line;
}

/*
 * Instead of fgets(), which does not tell where a line ends that holds a NUL. Indentation is left
 * out: libinih would take the line for more of the value above.
 */
static char *read_line(char *buf, int size, void *stream)
{
	struct reader *reader = stream;
	char why[64];
	int c, len = 0;

	reader->line++;
	while ((c = getc(reader->file)) != EOF) {
		if (c == '\0') {
			line_error(reader, "the line holds a NUL byte");
			return NULL;
		}
		if (len == 0 && c != '\n' && isspace(c))
			continue;
		if (len == size - 1) {
			/* libinih would go on with the rest as if it were the next line. */
			snprintf(why, sizeof(why), "the line is longer than %d characters",
				 size - 2);
			line_error(reader, why);
			return NULL;
		}
		buf[len++] = (char)c;
		if (c == '\n')
			break;
	}
	buf[len] = '\0';
	return len > 0 ? buf : NULL;
}

static bool is_section(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sections); i++) {
		if (strcmp(name, sections[i]) == 0)
			return true;
	}
	return false;
}

/* libinih's way: 1 is success. */
static int on_value(void *user, const char *section, const char *key, const char *value)
{
	struct reader *reader = user;
	char why[CONFIGFILE_ERROR_LEN], error[2 * CONFIGFILE_ERROR_LEN];

	if (strcmp(section, reader->section) == 0) {
		if (reader->set(reader->data, key, value, why) == 0)
			return 1;
		snprintf(error, sizeof(error), "%s: %s", key, why);
	} else if (is_section(section)) {
		return 1;
	} else if (*section) {
		snprintf(error, sizeof(error), "there is no section '[%s]'", section);
	} else {
		snprintf(error, sizeof(error), "'%s' stands before the first section", key);
	}
	line_error(reader, error);
	return 0;
}

static void closefile(FILE **f)
{
	if (*f)
		fclose(*f);
}

int configfile_read(const char *path, const char *section,
		    int (*set)(void *data, const char *key, const char *value,
			       char error[CONFIGFILE_ERROR_LEN]),
		    void *data)
{
	_cleanup_(closefile) FILE *file = fopen(path, "re");
	struct reader reader = {
		.path = path, .section = section, .set = set, .data = data, .file = file
	};
	int r;

	if (!file) {
		r = -errno;
		log_err("cannot read '%s': %s", path, strerror(-r));
		return r;
	}
	/* It hands read_line() the reader as the stream, and on_value() as its user. */
	r = ini_parse_stream(read_line, &reader, on_value, &reader);
	if (r < 0) {
		log_err("cannot read '%s'", path);
		return -EIO;
	}
	if (ferror(file)) {
		log_err("cannot read '%s' to its end: %s", path, strerror(errno));
		return -EIO;
	}
	/* An error that is none of on_value()'s: the line has no form that libinih knows. */
	if (r > 0 && (!reader.error_line || (unsigned int)r < reader.error_line))
		log_err("%s:%d: this is neither 'key = value' nor '[section]'", path, r);
	return r > 0 || reader.error_line ? -EINVAL : 0;
}
