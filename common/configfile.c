// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See configfile.h. libinih reports a line number only at the end of the file, so read_line()
 * counts lines itself.
 */
#include "configfile.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

static const char *const sections[] = { "load", "relay" };

/* More keys than any program has. */
#define KEYS_MAX 64

struct reader {
	struct configfile *config;
	FILE *file;
	unsigned int line;
	unsigned int error_line; /* line of the first message */
	struct {
		char name[64];
		unsigned int line;
	} keys[KEYS_MAX]; /* keys that have been set */
	size_t n_keys;
};

static void line_error(struct reader *reader, const char *what)
{
	log_err("%s:%u: %s", reader->config->path, reader->line, what);
	if (!reader->error_line)
		reader->error_line = reader->line;
}

/* Returns the length of the line without a '#' comment. libinih itself cuts only ';' comments. */
static size_t cut_comment(const char *line, size_t len)
{
	size_t i;

	for (i = 1; i < len; i++) {
		if (line[i] == '#' && isspace((unsigned char)line[i - 1]))
			return i;
	}
	return len;
}

/* True if text follows "[section]". libinih ignores that text, which may be a key. */
static bool has_more_than_section(const char *line)
{
	const char *end = *line == '[' ? strchr(line, ']') : NULL;
	size_t blanks;

	if (!end)
		return false;
	blanks = strspn(end + 1, " \t\r\n\v\f");
	end += 1 + blanks;
	return *end && !(*end == ';' && blanks > 0);
}

/*
 * libinih's reader. fgets() cannot tell where a line ends that contains a NUL. Indentation is
 * removed, because libinih takes an indented line for a continuation of the value above.
 */
static char *read_line(char *buf, int size, void *stream)
{
	struct reader *reader = stream;
	char why[64];
	int c, len = 0;

	reader->line++;
	while ((c = getc(reader->file)) != EOF) {
		if (c == '\0') {
			line_error(reader, "the line contains a NUL byte");
			return NULL;
		}
		if (len == 0 && c != '\n' && isspace(c))
			continue;
		if (len == size - 1) {
			/* libinih would parse the rest as another line. */
			snprintf(why, sizeof(why), "the line is longer than %d characters",
				 size - 2);
			line_error(reader, why);
			return NULL;
		}
		buf[len++] = (char)c;
		if (c == '\n')
			break;
	}
	buf[cut_comment(buf, (size_t)len)] = '\0';
	if (has_more_than_section(buf)) {
		line_error(reader, "there is text after '[section]'");
		return NULL;
	}
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

/*
 * Passes on a key, once only unless it is config->many. Returns 0, or -EINVAL with the reason in
 * error.
 */
static int set(struct reader *reader, const char *key, const char *value,
	       char error[CONFIGFILE_ERROR_LEN])
{
	const struct configfile *config = reader->config;
	size_t i;

	if (config->set(config->data, key, value, reader->line, error) < 0)
		return -EINVAL;
	for (i = 0; i < reader->n_keys; i++) {
		if (strcmp(key, reader->keys[i].name) != 0 || strcmp(key, config->many) == 0)
			continue;
		snprintf(error, CONFIGFILE_ERROR_LEN, "given twice, first at %s:%u", config->path,
			 reader->keys[i].line);
		return -EINVAL;
	}
	if (i < KEYS_MAX && strlen(key) < sizeof(reader->keys[i].name)) {
		strcpy(reader->keys[i].name, key);
		reader->keys[i].line = reader->line;
		reader->n_keys++;
	}
	return 0;
}

/* libinih's handler: returns 1 on success, 0 on error. */
static int on_value(void *user, const char *section, const char *key, const char *value)
{
	struct reader *reader = user;
	char why[CONFIGFILE_ERROR_LEN], error[2 * CONFIGFILE_ERROR_LEN];

	if (strcmp(section, reader->config->section) == 0) {
		if (set(reader, key, value, why) == 0)
			return 1;
		snprintf(error, sizeof(error), "%s: %s", key, why);
	} else if (is_section(section)) {
		reader->config->others = true;
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

/*
 * Accepts a regular file or /dev/null (for "no file"). A pipe, terminal or socket could block the
 * relay when SIGHUP makes it read the file again, and it delivers its text only once.
 */
static int check_kind(const char *path, int fd)
{
	const dev_t null = makedev(1, 3);
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;

	if (r == 0 && S_ISDIR(st.st_mode))
		r = -EISDIR;
	if (r < 0) {
		log_err("cannot read '%s': %s", path, strerror(-r));
		return r;
	}
	if (S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev == null))
		return 0;
	log_err("cannot read '%s': it is not a regular file; write the configuration to one", path);
	return -EINVAL;
}

/* O_NONBLOCK: open() of a pipe without a writer must not block. */
static int open_file(const char *path, FILE **ret_file)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int r;

	if (fd < 0) {
		r = -errno;
		/* open(2) fails with ENXIO for a socket. */
		log_err("cannot read '%s': %s", path,
			r == -ENXIO ? "it is not a regular file" : strerror(-r));
		return r;
	}
	r = check_kind(path, fd);
	if (r < 0)
		return r;
	*ret_file = fdopen(fd, "r");
	if (!*ret_file) {
		r = -errno;
		log_err("cannot read '%s': %s", path, strerror(-r));
		return r;
	}
	TAKE_FD(fd);
	return 0;
}

int configfile_read(struct configfile *config)
{
	const char *path = config->path;
	_cleanup_(closefile) FILE *file = NULL;
	struct reader reader = { .config = config };
	int r;

	r = open_file(path, &file);
	if (r < 0)
		return r;
	reader.file = file;
	/* libinih passes &reader to read_line() as stream and to on_value() as user. */
	r = ini_parse_stream(read_line, &reader, on_value, &reader);
	if (r < 0) {
		log_err("cannot read '%s'", path);
		return -EIO;
	}
	if (ferror(file)) {
		log_err("cannot read '%s' to its end: %s", path, strerror(errno));
		return -EIO;
	}
	/* An error that on_value() did not report: libinih does not know the form of the line. */
	if (r > 0 && (!reader.error_line || (unsigned int)r < reader.error_line))
		log_err("%s:%d: this is neither 'key = value' nor '[section]'", path, r);
	return r > 0 || reader.error_line ? -EINVAL : 0;
}
