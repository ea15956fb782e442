/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads the options of a program, by its table (optable.h), from the command line and the
 * configuration file.
 *
 * getopt_long(3) splits the command line, with three additions. Names are not abbreviated: an
 * abbreviation could mean another option in a later version, or be a typing error. argv is not
 * reordered, because it is parsed again at SIGHUP. A word that starts with "--" is not accepted as
 * the value of the option before it: the value was most likely forgotten.
 */
#ifndef TPROXY_OPTPARSE_H
#define TPROXY_OPTPARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "optable.h"
#include "util.h"

/* What was given, beside the values in the options struct. Bit n is row n of the table. */
struct optparse_given {
	uint64_t on_command_line;
	uint64_t in_file;
	unsigned int
		lines[OPTABLE_ROWS_MAX]; /* of the file, by row; the last one of a repeated key */
	bool file_has_others;		 /* the file has sections of other programs */
};

/*
 * Sets the defaults in *options, which is zeroed, then reads the file that --config names, then the
 * command line, which takes precedence. Returns 0; 1 if --help, --version or --print-options was
 * answered (exit status 0); or -EINVAL, logged (exit status 2).
 */
int optparse_read(const struct optable *table, int argc, char **argv, void *options,
		  struct optparse_given *ret_given);

/* Logs a usage error, with a hint to --help. Returns -EINVAL. */
int optparse_usage_error(const struct optable *table, const char *fmt, ...) _printf_(2, 3);

/* Returns the line of the file that has the value of this option, or 0 if it comes from elsewhere.
 */
unsigned int optparse_line(const struct optable *table, const struct optparse_given *given,
			   const char *name);

/* Returns true if the option of this name, which must be in the table, is in a set of rows. */
bool optparse_has(const struct optable *table, uint64_t set, const char *name);

#endif
