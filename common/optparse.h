/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Walks a command line. Differs from getopt_long(3) in three ways. It accepts no abbreviated names:
 * one could mean another option in a later version, or be a typing error. It does not reorder argv,
 * because argv is parsed again at SIGHUP. It does not take an option for the value of the option
 * before it.
 */
#ifndef TPROXY_OPTPARSE_H
#define TPROXY_OPTPARSE_H

#include <stdbool.h>

struct optparse_option {
	const char *name; /* without its dashes; NULL ends the table */
	int val;	  /* above 1; a printable character is also the short option */
	bool wants_value;
};

struct optparse {
	int argc;
	char **argv;
	const struct optparse_option *options;
	int next;	     /* index of the next word */
	const char *cluster; /* the rest of a word of short options, or NULL */
	bool operands;	     /* "--" was seen */
};

#define OPTPARSE_END	   0
#define OPTPARSE_OPERAND   1
#define OPTPARSE_ERROR_LEN 256

/* Starts a walk after argv[0]. argv and options are not copied and must outlive the walk. */
void optparse_init(struct optparse *p, int argc, char **argv,
		   const struct optparse_option *options);

/*
 * Returns the val of the next option, with *ret_value = its value or NULL; OPTPARSE_OPERAND, with
 * *ret_value = the word; OPTPARSE_END; or -EINVAL, with a message in error. Values point into argv.
 */
int optparse_next(struct optparse *p, const char **ret_value, char error[OPTPARSE_ERROR_LEN]);

/* Returns the long name of the option with this val, which must be in the table. */
const char *optparse_name(const struct optparse_option *options, int val);

#endif
