// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * common/configfile.c reads any file. It fails with a message or succeeds without one, and each key
 * that is set starts a line of its own in the file. The first byte of the input selects the section
 * and whether some values are refused.
 */
#include "fuzz.h"

#define open   fuzz_open
#define fdopen fuzz_fdopen
#include "../../common/configfile.c"
#undef fdopen
#undef open

struct reading {
	const char *next; /* the first line in which the next key may stand */
	const char *end;
	bool picky;
	unsigned int refused;
};

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* True if the line starts with this key, followed by a separator, and contains the value. */
static bool line_has(const char *line, const char *eol, const char *key, const char *value)
{
	size_t len = strlen(key);

	while (line < eol && is_blank(*line))
		line++;
	if ((size_t)(eol - line) <= len || memcmp(line, key, len) != 0)
		return false;
	line += len;
	if (!is_blank(*line) && *line != '=' && *line != ':')
		return false;
	return !*value || memmem(line, (size_t)(eol - line), value, strlen(value));
}

static int on_key(void *data, const char *key, const char *value, unsigned int number,
		  char error[CONFIGFILE_ERROR_LEN])
{
	struct reading *reading = data;
	const char *line = reading->next, *eol;
	bool found = false;

	for (; line < reading->end && !found; line = eol + 1) {
		eol = memchr(line, '\n', (size_t)(reading->end - line));
		if (!eol)
			eol = reading->end;
		found = line_has(line, eol, key, value);
	}
	require(found && number > 0);
	reading->next = line;
	if (!reading->picky || strlen(value) % 2 == 0)
		return 0;
	reading->refused++;
	snprintf(error, CONFIGFILE_ERROR_LEN, "'%s' is not liked", value);
	return -EINVAL;
}

/* A section beside the program's own. Refuses names of an odd length. */
static int on_section(void *data, const char *section, const char *name, unsigned int number,
		      char error[CONFIGFILE_ERROR_LEN])
{
	struct reading *reading = data;

	require(number > 0 && !name == !strcmp(section, "names"));
	require(!name || !strcmp(section, "upstream"));
	if (!reading->picky || !name || strlen(name) % 2 == 0)
		return 0;
	reading->refused++;
	snprintf(error, CONFIGFILE_ERROR_LEN, "'%s' is not liked", name);
	return -EINVAL;
}

static bool may_repeat(const void *data, const char *key)
{
	return strcmp(key, "cgroup") == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reading reading = {};
	struct configfile file = {
		.path = "fuzz.conf",
		.may_repeat = may_repeat,
		.set = on_key,
		.begin = on_section,
		.set_other = on_key,
		.data = &reading,
	};
	bool has_nul;
	int r;

	if (size < 1)
		return 0;
	fuzz_file.data = data + 1;
	fuzz_file.size = size - 1;
	has_nul = memchr(fuzz_file.data, '\0', fuzz_file.size);
	reading.next = fuzz_file.data;
	reading.end = reading.next + fuzz_file.size;
	/* Low bits, so that the digits and letters of the seeds select both. */
	reading.picky = *data & 2;
	fuzz_logged = 0;
	file.section = *data & 1 ? "relay" : "load";
	r = configfile_read(&file);
	require(r == 0 || r == -EINVAL);
	require((r == 0) == (fuzz_logged == 0));
	require(fuzz_logged >= reading.refused);
	/* A file with a NUL must be refused: what follows the NUL would be ignored. */
	require(r < 0 || !has_nul);
	return 0;
}
