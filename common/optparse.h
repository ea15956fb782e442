/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Walks a command line. Unlike getopt_long(3) it takes no abbreviated name, which may mean another
 * option tomorrow, and for which a mistyped option is easily taken; it leaves argv in its order,
 * for that is read again at SIGHUP; and it takes no option for the value of the one before it.
 */
#ifndef TPROXY_OPTPARSE_H
#define TPROXY_OPTPARSE_H

#include <stdbool.h>

struct optparse_option {
	const char *name; /* without its dashes; NULL ends a table */
	int val;	  /* > 1. A printable character is the short option too. */
	bool wants_value;
};

struct optparse {
	int argc;
	char **argv;
	const struct optparse_option *options;
	int next;	     /* index of the next word */
	const char *cluster; /* the rest of a word of short options, or NULL */
	bool operands;	     /* "--" has been met */
};

#define OPTPARSE_END	   0
#define OPTPARSE_OPERAND   1
#define OPTPARSE_ERROR_LEN 256

/* argv and options stay the caller's, and must outlive the walk. argv[0] is skipped. */
void optparse_init(struct optparse *p, int argc, char **argv,
		   const struct optparse_option *options);

/*
 * The val of the next option, with *ret_value its value or NULL; OPTPARSE_OPERAND, with *ret_value
 * the word; OPTPARSE_END; or -EINVAL, with what is wrong in error.
 */
int optparse_next(struct optparse *p, const char **ret_value, char error[OPTPARSE_ERROR_LEN]);

/* The long name of the option with this val, which must be in the table. */
const char *optparse_name(const struct optparse_option *options, int val);

#endif
