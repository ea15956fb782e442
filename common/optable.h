/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The options of a program, as one table. A row has all that is known about an option: its names,
 * how its value is parsed and where it is stored, its range and default, whether it is a key of the
 * configuration file, whether a reload may change it, and its help text. The command line, the
 * file, the reload, the text of --help and the shell completions come from the table. A new option
 * is therefore one row, one member of the options struct, its use, and the man page.
 */
#ifndef TPROXY_OPTABLE_H
#define TPROXY_OPTABLE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parse.h"

#define OPTABLE_ERROR_LEN 512
#define OPTABLE_ROWS_MAX  64

enum optable_type {
	OPTABLE_TYPE_FLAG,     /* bool; yes or no in the file, no value on the command line */
	OPTABLE_TYPE_PATH,     /* char[PATH_MAX], not empty */
	OPTABLE_TYPE_NUMBER,   /* uint32_t */
	OPTABLE_TYPE_SIZE,     /* uint32_t, bytes */
	OPTABLE_TYPE_DURATION, /* uint64_t, ms */
	OPTABLE_TYPE_WORD,     /* enum: the index of one of the words */
	OPTABLE_TYPE_CUSTOM,   /* set() parses and stores the value */
	OPTABLE_TYPE_CONFIG,   /* char[PATH_MAX]: the configuration file; given at most once */
	OPTABLE_TYPE_HELP,
	OPTABLE_TYPE_VERSION,
};

#define OPTABLE_KEY	 (1U << 0) /* is a key of the configuration file too */
#define OPTABLE_FIXED	 (1U << 1) /* a reload cannot change it */
#define OPTABLE_ZERO	 (1U << 2) /* 0 is valid too, whatever min is */
#define OPTABLE_REPEATED (1U << 3) /* may be given more than once */
#define OPTABLE_POSITIVE (1U << 4) /* a duration: 0 is not valid */
#define OPTABLE_ONCE	 (1U << 5) /* a path: given at most once on the command line */

struct optable_row {
	const char *name; /* the long option, and the key of the file */
	char short_name;  /* or 0 */
	const char *arg;  /* what --help calls the value; NULL: takes none */
	enum optable_type type;
	size_t offset, size;	/* of the member in the options struct */
	uint64_t min, max;	/* of a number, a size (bytes) or a duration (ms) */
	uint64_t unit;		/* a duration must be a multiple of it; 0: any */
	const char *by_default; /* value, parsed as if it were given; NULL: the member stays zero */
	const char *default_text; /* for --help, if the program computes the default */
	const char *const *words; /* ends with NULL */
	/*
	 * line is that of the file, or 0 for the command line. Returns 0, or -EINVAL with a message
	 * in error, which does not name the option.
	 */
	int (*set)(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN]);
	unsigned int flags;
	unsigned int commands; /* bits of the commands that take it; 0: all */
	/* For --help. The text before the first ';' is also the description in completions. */
	const char *help;
};

/* The member m of struct s. Does not compile without a warning unless its type is t. */
#define OPTABLE_MEMBER(s, m, t)                                                                    \
	.offset = offsetof(s, m) + 0 * sizeof((__typeof__(t) *)0 == &((s *)0)->m),                 \
	.size = sizeof(((s *)0)->m)
#define OPTABLE_FLAG(s, m) .type = OPTABLE_TYPE_FLAG, OPTABLE_MEMBER(s, m, bool)
#define OPTABLE_PATH(s, m) .type = OPTABLE_TYPE_PATH, OPTABLE_MEMBER(s, m, char[PATH_MAX])
#define OPTABLE_NUMBER(s, m, least, most)                                                          \
	.type = OPTABLE_TYPE_NUMBER, OPTABLE_MEMBER(s, m, uint32_t), .min = (least), .max = (most)
#define OPTABLE_SIZE(s, m, least, most)                                                            \
	.type = OPTABLE_TYPE_SIZE, OPTABLE_MEMBER(s, m, uint32_t), .min = (least), .max = (most)
/*
 * Without its own range a duration is 1 ms to PARSE_DURATION_MAX_MS. Without OPTABLE_POSITIVE 0 is
 * valid too.
 */
#define OPTABLE_DURATION(s, m) OPTABLE_DURATION_IN(s, m, 1, PARSE_DURATION_MAX_MS)
#define OPTABLE_DURATION_IN(s, m, least, most)                                                     \
	.type = OPTABLE_TYPE_DURATION, OPTABLE_MEMBER(s, m, uint64_t), .min = (least), .max = (most)
#define OPTABLE_WORD(s, m, t, list)                                                                \
	.type = OPTABLE_TYPE_WORD, OPTABLE_MEMBER(s, m, t), .words = (list)
#define OPTABLE_CUSTOM(function) .type = OPTABLE_TYPE_CUSTOM, .set = (function)

/* Rows that programs share. */
#define OPTABLE_ROW_HELP                                                                           \
	{                                                                                          \
		.name = "help", .short_name = 'h', .type = OPTABLE_TYPE_HELP,                      \
		.help = "print this help",                                                         \
	}
#define OPTABLE_ROW_VERSION                                                                        \
	{                                                                                          \
		.name = "version", .type = OPTABLE_TYPE_VERSION,                                   \
		.help = "print the version and the ABI version",                                   \
	}

struct optable {
	const char *program;
	const char *version;	  /* or NULL */
	const char *section;	  /* of the configuration file, or NULL */
	const char *command_name; /* of tproxyctl, or NULL */
	unsigned int command;	  /* bit of the command, see optable_row.commands */
	/* Names by bit, ends with NULL; or NULL. Bit 0 is the program without a command. */
	const char *const *commands;
	/* Takes an operand, as optable_row.set() takes a value. NULL: there are none. */
	int (*add_operand)(void *options, const char *value, char error[OPTABLE_ERROR_LEN]);
	/*
	 * Take the sections of the file beside the program's own, see struct configfile. NULL: such
	 * sections are skipped.
	 */
	int (*begin_section)(void *options, const char *section, const char *name,
			     unsigned int line, char error[OPTABLE_ERROR_LEN]);
	int (*set_in_section)(void *options, const char *key, const char *value, unsigned int line,
			      char error[OPTABLE_ERROR_LEN]);
	bool operands_last; /* options end at the first operand: the operands are a command line */
	const char *usage;  /* follows "Usage: " */
	const char *about;  /* between the usage and the options */
	const char *notes;  /* after the options, or NULL */
	const struct optable_row *rows;
	size_t n_rows;
};

/*
 * Sets the option of a row. line is that of the file, or 0 for the command line. Returns 0, or
 * -EINVAL with a message in error, which does not name the option.
 */
int optable_set(const struct optable_row *row, void *options, const char *value, unsigned int line,
		char error[OPTABLE_ERROR_LEN]);

/* Sets the defaults of all rows that have one. */
void optable_set_defaults(const struct optable *table, void *options);

/* Returns the name of an option that differs although a reload cannot change it, or NULL. */
const char *optable_changed(const struct optable *table, const void *before, const void *after);

/* Returns true if the table's command takes the option. */
bool optable_takes(const struct optable *table, const struct optable_row *row);

/* For set(): copies a path, which may not be empty. Returns 0 or -EINVAL. */
int optable_path(const char *value, char ret_path[PATH_MAX], char error[OPTABLE_ERROR_LEN]);

/* For set(): parses a number within the range of the row. Returns 0 or -EINVAL. */
int optable_number(const struct optable_row *row, const char *value, uint32_t *ret_number,
		   char error[OPTABLE_ERROR_LEN]);

/* For set(): writes the message to error. Its value is -EINVAL. */
#define optable_refuse(error, ...) (snprintf(error, OPTABLE_ERROR_LEN, __VA_ARGS__), -EINVAL)

/* Formats a value of a size or duration with the largest unit that divides it: "64K", "9h". */
#define OPTABLE_VALUE_LEN 32
char *optable_format(const struct optable_row *row, uint64_t value, char buf[OPTABLE_VALUE_LEN]);

#endif
