/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The configuration file, which both programs read: an INI file with a section for each. Keys are
 * the long options without their dashes. The grammar is libinih's: "key = value" or "key: value",
 * comments from ';' or '#'.
 */
#ifndef TPROXY_CONFIGFILE_H
#define TPROXY_CONFIGFILE_H

/*
 * Calls set for each key of a section; it returns 0, or -EINVAL with a message in error. Keys of
 * the other program's section are skipped, other sections refused. Every wrong line is logged as
 * FILE:LINE: MESSAGE. 0, -EINVAL, or -errno if the file cannot be read, which is logged too.
 */
#define CONFIGFILE_ERROR_LEN 256
int configfile_read(const char *path, const char *section,
		    int (*set)(void *data, const char *key, const char *value,
			       char error[CONFIGFILE_ERROR_LEN]),
		    void *data);

#endif
