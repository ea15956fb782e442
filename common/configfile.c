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

struct section {
	const char *name;
	const char *program; /* whose section it is: the name of the program's own section */
	bool is_named;	     /* [SECTION NAME] */
	bool has_hosts;	     /* its keys are host names, which may be longer than other keys */
};

static const struct section sections[] = {
	{ .name = "load", .program = "load" },
	{ .name = "relay", .program = "relay" },
	{ .name = "upstream", .program = "relay", .is_named = true },
	{ .name = "names", .program = "relay", .has_hosts = true },
};

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

/* Limit of a key. libinih has room for it, and a separator. */
#define KEY_MAX 100
_Static_assert(KEY_MAX + 3 <= INI_MAX_LINE, "read_line() passes the key to libinih");
/* Limit of a key that is a host name, which libinih does not get. */
#define HOST_KEY_MAX 255

/* More keys than any program has. */
#define KEYS_MAX 64

struct reader {
	struct configfile *config;
	FILE *file;
	unsigned int line;
	unsigned int error_line;       /* line of the first message */
	bool skip;		       /* the section is wrong, which was reported */
	const struct section *section; /* NULL before the first one */
	char text[CONFIGFILE_LINE_MAX + 1];
	char host_key[HOST_KEY_MAX + 1]; /* of a section that has_hosts */
	const char *value;		 /* in text; NULL: libinih has it */
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

static const struct section *find_section(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sections); i++) {
		if (strcmp(name, sections[i].name) == 0)
			return &sections[i];
	}
	return NULL;
}

/* Cuts "upstream corp" after its first word. Returns the rest, which may be empty. */
static char *split_name(char *text)
{
	size_t len = strcspn(text, " \t");
	char *name = text + len + strspn(text + len, " \t");

	text[len] = '\0';
	return name;
}

/* Passes on the start of a section, unless it is the program's own or another program's. */
static int pass_section(struct reader *reader, const char *name)
{
	struct configfile *config = reader->config;
	const struct section *section = reader->section;
	char error[CONFIGFILE_ERROR_LEN];

	if (!config->begin || strcmp(section->program, config->section) != 0 ||
	    strcmp(section->name, config->section) == 0)
		return 0;
	if (config->begin(config->data, section->name, section->is_named ? name : NULL,
			  reader->line, error) == 0)
		return 0;
	return line_error(reader, error);
}

/* Returns 0, or -EINVAL after a message. Then the keys of the section are skipped. */
static int check_section(struct reader *reader)
{
	const char *end = strchr(reader->text, ']');
	char error[CONFIGFILE_ERROR_LEN], word[CONFIGFILE_LINE_MAX + 1], *name;
	const struct section *section;

	reader->skip = true;
	if (!end)
		return line_error(reader, "this is neither 'key = value' nor '[section]'");
	snprintf(word, sizeof(word), "%.*s", (int)(end - reader->text - 1), reader->text + 1);
	name = split_name(word);
	section = find_section(word);
	if (!section || (*name && !section->is_named)) {
		snprintf(error, sizeof(error), "there is no section '%.*s'",
			 (int)(end + 1 - reader->text), reader->text);
		return line_error(reader, error);
	}
	if (end[1])
		return line_error(reader, "there is text after '[section]'");
	reader->section = section;
	if (pass_section(reader, name) < 0)
		return -EINVAL;
	reader->skip = false;
	return 0;
}

/* Returns the length of the key, without the blanks after it. */
static size_t key_len(const char *text)
{
	size_t len = strcspn(text, "=:");

	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	return len;
}

/* Returns 0, or -EINVAL after a message. */
static int check_key(struct reader *reader)
{
	const bool has_hosts = reader->section && reader->section->has_hosts;
	const size_t end = strcspn(reader->text, "=:"), len = key_len(reader->text);

	if (!reader->text[end])
		return line_error(reader, "this is neither 'key = value' nor '[section]'");
	if (len == 0)
		return line_error(reader, "there is no key before the value");
	if (has_hosts ? len > HOST_KEY_MAX : end > KEY_MAX)
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

/* Sets reader->value to the value of the line in reader->text. Returns the length of "key=". */
static size_t find_value(struct reader *reader)
{
	const size_t len = strcspn(reader->text, "=:") + 1;

	reader->value = reader->text + len;
	while (isspace((unsigned char)*reader->value))
		reader->value++;
	return len;
}

/* Splits a line of a section that has_hosts, and writes to text a line for libinih. */
static void split_host_line(struct reader *reader, char *text, size_t size)
{
	const size_t len = key_len(reader->text);

	find_value(reader);
	memcpy(reader->host_key, reader->text, len);
	reader->host_key[len] = '\0';
	snprintf(text, size, "host =");
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
	if (len > 0 && *text != '[' && reader->section && reader->section->has_hosts) {
		split_host_line(reader, buf, (size_t)size);
		return buf;
	}
	/* Keep room for a newline. Without it libinih would call again for the same line. */
	if (len + 2 > (size_t)size)
		len = *text == '[' ? 0 : find_value(reader);
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

/* Passes on a key of a section that the program has beside its own. */
static int pass_key(struct reader *reader, const char *key, const char *value,
		    char error[CONFIGFILE_ERROR_LEN])
{
	const struct configfile *config = reader->config;

	return config->set_other ? config->set_other(config->data, key, value, reader->line, error)
				 : 0;
}

/* libinih's handler: returns 1 on success, 0 on error. */
static int on_value(void *user, const char *name, const char *key, const char *value)
{
	struct reader *reader = user;
	const struct section *section = reader->section;
	char why[CONFIGFILE_ERROR_LEN], error[2 * CONFIGFILE_ERROR_LEN];
	int r;

	if (reader->skip)
		return 1;
	if (!section) {
		snprintf(error, sizeof(error), "'%s' stands before the first section", key);
		line_error(reader, error);
		return 0;
	}
	if (strcmp(section->program, reader->config->section) != 0) {
		reader->config->others = true;
		return 1;
	}
	if (reader->value)
		value = reader->value;
	if (section->has_hosts)
		key = reader->host_key;
	if (strcmp(section->name, reader->config->section) == 0)
		r = set(reader, key, value, why);
	else
		r = pass_key(reader, key, value, why);
	if (r == 0)
		return 1;
	snprintf(error, sizeof(error), "%s: %s", key, why);
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
