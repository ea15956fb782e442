// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See configfile.h. libinih splits a line into key and value, and knows the section of a key.
 * read_line() does the rest, because libinih
 *
 *   - reports a line number only at the end of the file, and only that of the first wrong line;
 *   - takes a '#' after a value, and an indented line, for parts of a value;
 *   - does not report a section without keys, or text after "[section]";
 *   - has a buffer of 200 bytes for a line, which is shorter than many paths of cgroups.
 *
 * libinih gets only the key of a line that its buffer cannot hold. on_value() then takes the value
 * from reader->text.
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

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

/* Limit of a key. libinih has room for it, and a separator. */
#define KEY_MAX 100
_Static_assert(KEY_MAX + 3 <= INI_MAX_LINE, "read_line() passes the key to libinih");

/* More keys than any program has. */
#define KEYS_MAX 64

struct reader {
	struct configfile *config;
	FILE *file;
	unsigned int line;
	unsigned int error_line; /* line of the first message */
	bool skip;		 /* the section is wrong, which was reported */
	char text[CONFIGFILE_LINE_MAX + 1];
	const char *value; /* in text; NULL: libinih has it */
	struct {
		char name[64];
		unsigned int line;
	} keys[KEYS_MAX]; /* keys that have been set */
	size_t n_keys;
};

static int line_error(struct reader *reader, const char *what)
{
	log_err("%s:%u: %s", reader->config->path, reader->line, what);
	if (!reader->error_line)
		reader->error_line = reader->line;
	return -EINVAL;
}

/* Cuts the comment off, and the blanks before it. */
static void cut_comment(char *text)
{
	size_t len;

	for (len = 0; text[len]; len++) {
		if ((text[len] == '#' || text[len] == ';') &&
		    (len == 0 || isspace((unsigned char)text[len - 1])))
			break;
	}
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	text[len] = '\0';
}

static bool is_section(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sections); i++) {
		if (strncmp(name, sections[i], len) == 0 && !sections[i][len])
			return true;
	}
	return false;
}

/* Returns 0, or -EINVAL after a message. Then the keys of the section are skipped. */
static int check_section(struct reader *reader)
{
	const char *name = reader->text + 1, *end = strchr(name, ']');
	char error[CONFIGFILE_ERROR_LEN];

	reader->skip = true;
	if (!end)
		return line_error(reader, "this is neither 'key = value' nor '[section]'");
	if (!is_section(name, (size_t)(end - name))) {
		snprintf(error, sizeof(error), "there is no section '[%.*s]'", (int)(end - name),
			 name);
		return line_error(reader, error);
	}
	if (end[1])
		return line_error(reader, "there is text after '[section]'");
	reader->skip = false;
	return 0;
}

/* Returns 0, or -EINVAL after a message. */
static int check_key(struct reader *reader)
{
	const size_t len = strcspn(reader->text, "=:");

	if (!reader->text[len])
		return line_error(reader, "this is neither 'key = value' nor '[section]'");
	if (len == 0)
		return line_error(reader, "there is no key before the value");
	if (len > KEY_MAX)
		return line_error(reader, "the key is too long");
	return 0;
}

/*
 * Reads a line into reader->text, without indentation, comment and blanks at the end. Returns
 * false at the end of the file, and for a line that cannot be read, which is reported.
 */
static bool read_text(struct reader *reader)
{
	char *text = reader->text, why[64];
	bool any = false;
	size_t len = 0;
	int c;

	reader->line++;
	while ((c = getc(reader->file)) != EOF && c != '\n') {
		any = true;
		if (c == '\0') {
			/* The text after it would be ignored. */
			line_error(reader, "the line contains a NUL byte");
			return false;
		}
		if (len == 0 && isspace(c))
			continue;
		if (len == CONFIGFILE_LINE_MAX && text[0] != '#' && text[0] != ';') {
			snprintf(why, sizeof(why), "the line is longer than %d characters",
				 CONFIGFILE_LINE_MAX);
			line_error(reader, why);
			return false;
		}
		if (len < CONFIGFILE_LINE_MAX)
			text[len++] = (char)c;
		if (reader->line == 1 && len == 3 && memcmp(text, BYTE_ORDER_MARK, 3) == 0)
			len = 0;
	}
	text[len] = '\0';
	cut_comment(text);
	return any || c == '\n';
}

/*
 * Reader for libinih: returns buf, or NULL at the end of the file. It replaces a wrong line by an
 * empty one, which libinih ignores.
 */
static char *read_line(char *buf, int size, void *stream)
{
	struct reader *reader = stream;
	const char *text = reader->text;
	size_t len;
	int r = 0;

	if (!read_text(reader))
		return NULL;
	if (*text == '[')
		r = check_section(reader);
	else if (*text)
		r = check_key(reader);
	len = r < 0 ? 0 : strlen(text);
	reader->value = NULL;
	/* Keep room for a newline. Without it libinih would call again for the same line. */
	if (len + 2 > (size_t)size) {
		len = strcspn(text, "=:") + 1;
		reader->value = text + len;
		while (isspace((unsigned char)*reader->value))
			reader->value++;
	}
	memcpy(buf, text, len);
	buf[len] = '\0';
	return buf;
}

/*
 * Passes on a key, once only unless it may be repeated. Returns 0, or -EINVAL with the reason in
 * error.
 */
static int set(struct reader *reader, const char *key, const char *value,
	       char error[CONFIGFILE_ERROR_LEN])
{
	const struct configfile *config = reader->config;
	const bool many = config->may_repeat && config->may_repeat(config->data, key);
	size_t i;

	if (config->set(config->data, key, value, reader->line, error) < 0)
		return -EINVAL;
	for (i = 0; i < reader->n_keys; i++) {
		if (many || strcmp(key, reader->keys[i].name) != 0)
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

	if (reader->skip)
		return 1;
	if (reader->value)
		value = reader->value;
	if (strcmp(section, reader->config->section) == 0) {
		if (set(reader, key, value, why) == 0)
			return 1;
		snprintf(error, sizeof(error), "%s: %s", key, why);
	} else if (*section) {
		reader->config->others = true;
		return 1;
	} else {
		snprintf(error, sizeof(error), "'%s' stands before the first section", key);
	}
	line_error(reader, error);
	return 0;
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
	_cleanup_fclose_ FILE *file = NULL;
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
