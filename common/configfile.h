/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The configuration file, which both programs read: an INI file with a section for each. Keys are
 * the long options without their dashes. The grammar is libinih's: "key = value" or "key: value".
 * ';' and '#' begin a comment, at the beginning of a line or after a blank.
 */
#ifndef TPROXY_CONFIGFILE_H
#define TPROXY_CONFIGFILE_H

#include <stdbool.h>

#define CONFIGFILE_ERROR_LEN 256

struct configfile {
	const char *path;
	const char *section;
	const char *many; /* the one key that may be given again and again */
	/* Returns 0, or -EINVAL with a message in error. */
	int (*set)(void *data, const char *key, const char *value, unsigned int line,
		   char error[CONFIGFILE_ERROR_LEN]);
	void *data;
	bool others; /* set by configfile_read(): there is a section of another program */
};

/*
 * Calls set for each key of the section. Sections of other programs are skipped, unknown ones
 * refused. Does not wait: what is not a regular file, nor /dev/null, is refused.
 * Every wrong line is logged as FILE:LINE: MESSAGE. 0, -EINVAL, or -errno if the file
 * cannot be read, which is logged too.
 */
int configfile_read(struct configfile *file);

#endif
