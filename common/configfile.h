/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The configuration file of the tproxy programs: an INI file with a section for each of them, whose
 * keys are the long options without their dashes. The relay has more sections: [upstream NAME] and
 * [names]. libinih parses the file: "key = value" or "key: value". ';' and '#' start a comment, at
 * the start of a line or after a blank.
 */
#ifndef TPROXY_CONFIGFILE_H
#define TPROXY_CONFIGFILE_H

#include <limits.h>
#include <stdbool.h>

#define CONFIGFILE_ERROR_LEN 512
/* Limit of a line without indentation: a path, its key and some blanks. */
#define CONFIGFILE_LINE_MAX (PATH_MAX + 256)

struct configfile {
	const char *path;
	const char *section;
	/* Returns true if the key may be given more than once. NULL: none may. */
	bool (*may_repeat)(const void *data, const char *key);
	/*
	 * Called for each key of the section; line counts from 1. Returns 0, or -EINVAL with a
	 * message in error.
	 */
	int (*set)(void *data, const char *key, const char *value, unsigned int line,
		   char error[CONFIGFILE_ERROR_LEN]);
	/*
	 * For the sections that the program has beside its own: begin is called at the start of
	 * each, with the NAME of [SECTION NAME], which may be empty, or NULL; then set_other for
	 * its keys. Both return 0, or -EINVAL with a message in error. After an error of begin, the
	 * section's keys are skipped. NULL: such sections are skipped.
	 */
	int (*begin)(void *data, const char *section, const char *name, unsigned int line,
		     char error[CONFIGFILE_ERROR_LEN]);
	int (*set_other)(void *data, const char *key, const char *value, unsigned int line,
			 char error[CONFIGFILE_ERROR_LEN]);
	void *data;
	bool others; /* set by configfile_read(): the file has a section of another program */
};

/*
 * Reads the file at path and calls set for each key of the section. Sections of other programs are
 * skipped, also [upstream NAME] and [names] by a program other than the relay; an unknown section
 * is an error. Only a regular file or /dev/null is read, so the call never blocks on a pipe. Logs
 * each wrong line as FILE:LINE: MESSAGE. Returns 0, -EINVAL for wrong lines, or another -errno if
 * the file cannot be read, which is logged too.
 */
int configfile_read(struct configfile *file);

#endif
