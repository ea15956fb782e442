// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See optparse.h. argv is walked twice: first its form is checked and --config, --help and
 * --version are looked for; then, after the configuration file was read, the options are set.
 */
#include "optparse.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "configfile.h"
#include "log.h"
#include "opthelp.h"
#include "tproxy_abi.h"

_Static_assert(OPTABLE_ERROR_LEN == CONFIGFILE_ERROR_LEN, "set_key() passes one to the other");

/* getopt_long() returns this plus the row's index for a long option. */
#define LONG 0x100

/* Results of next_option() that are not the index of a row. */
#define WALK_END     (-1)
#define WALK_OPERAND (-2)

/* A walk over a command line. getopt_long() has its state in global variables: one at a time. */
struct walk {
	const struct optable *table;
	int argc;
	char **argv;
	struct option longs[OPTABLE_ROWS_MAX + 1];
	char shorts[2 * OPTABLE_ROWS_MAX + 3];
	bool ended; /* "--" or the end of argv was seen */
};

int optparse_usage_error(const struct optable *table, const char *fmt, ...)
{
	const char *command = table->command_name;
	char text[2 * OPTABLE_ERROR_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (command)
		log_err("%s: %s; try '%s %s --help'", command, text, table->program, command);
	else
		log_err("%s; try '%s --help'", text, table->program);
	return -EINVAL;
}

/* Starts a walk after argv[0]. */
static void walk_init(struct walk *w, const struct optable *table, int argc, char **argv)
{
	const struct optable_row *row = table->rows;
	struct option *o = w->longs;
	char *s = w->shorts;
	size_t i;

	assert(table->n_rows <= OPTABLE_ROWS_MAX);
	w->table = table;
	w->argc = argc;
	w->argv = argv;
	w->ended = false;
	/* Operands are returned in their place; ':' distinguishes a missing value from an unknown
	 * option. */
	*s++ = '-';
	*s++ = ':';
	for (i = 0; i < table->n_rows; i++, row++) {
		if (!optable_takes(table, row))
			continue;
		*o++ = (struct option){ row->name, row->arg ? required_argument : no_argument, NULL,
					LONG + (int)i };
		if (row->short_name)
			*s++ = row->short_name;
		if (row->short_name && row->arg)
			*s++ = ':';
	}
	*o = (struct option){};
	*s = '\0';
	optind = 0; /* start again */
}

/* Appends the names of the options that start with name: "--a", "--a or --b", "--a, --b or --c". */
static void list_candidates(const struct walk *w, const char *name, size_t len,
			    char text[OPTABLE_ERROR_LEN])
{
	const struct option *o, *last = NULL;
	size_t used = strlen(text);
	bool first = true;

	for (o = w->longs; o->name; o++) {
		if (strncmp(o->name, name, len) == 0)
			last = o;
	}
	for (o = w->longs; o->name && used < OPTABLE_ERROR_LEN; o++) {
		if (strncmp(o->name, name, len) != 0)
			continue;
		used += (size_t)snprintf(text + used, OPTABLE_ERROR_LEN - used, "%s--%s",
					 first	     ? ""
					 : o == last ? " or "
						     : ", ",
					 o->name);
		first = false;
	}
}

/* Refuses a long option whose name, of this length, is not in the table. */
static int refuse_name(const struct walk *w, const char *name, size_t len,
		       char error[OPTABLE_ERROR_LEN])
{
	const struct option *o;

	for (o = w->longs; o->name && len > 0; o++) {
		if (strncmp(o->name, name, len) != 0)
			continue;
		snprintf(error, OPTABLE_ERROR_LEN, "option '--%.*s' is incomplete: ", (int)len,
			 name);
		list_candidates(w, name, len, error);
		return -EINVAL;
	}
	return optable_refuse(error, "unknown option '--%s'", name);
}

static const struct option *find_exact(const struct walk *w, const char *name, size_t len)
{
	const struct option *o;

	for (o = w->longs; o->name; o++) {
		if (strncmp(o->name, name, len) == 0 && !o->name[len])
			return o;
	}
	return NULL;
}

/* Refuses the option that getopt_long() did not accept. missing: its value is missing. */
static int refuse_option(const struct walk *w, const char *word, bool missing,
			 char error[OPTABLE_ERROR_LEN])
{
	const char *name = word + 2;
	const size_t len = strcspn(name, "=");

	if (word[1] == '-') {
		if (!find_exact(w, name, len))
			return refuse_name(w, name, len, error);
		if (missing)
			return optable_refuse(error, "option '%s' requires an argument", word);
		return optable_refuse(error, "option '--%.*s' takes no argument: '%s'", (int)len,
				      name, word);
	}
	if (missing)
		return optable_refuse(error, "option '-%c' requires an argument", optopt);
	return optable_refuse(error, "unknown option '-%c'", optopt);
}

/*
 * Refuses forms that only getopt_long() accepts. word has the option, next_word its value or NULL.
 */
static int check_option(const struct walk *w, const char *word, int c, const char *next_word,
			char error[OPTABLE_ERROR_LEN])
{
	const char *name = word + 2;
	const size_t len = strcspn(name, "=");
	char option[] = { '-', (char)c, '\0' };

	if (word[1] == '-' && !find_exact(w, name, len))
		return refuse_name(w, name, len, error);
	if (next_word && strncmp(next_word, "--", 2) == 0)
		return optable_refuse(error, "option '%s' requires an argument, '%s' is an option",
				      c >= LONG ? word : option, next_word);
	/* "-x=5" would make '=' a part of the value, which is hardly intended. */
	if (c < LONG && optarg && !next_word && *optarg == '=')
		return optable_refuse(error, "option '%s' takes its value without '=': '%s%s'",
				      option, option, optarg);
	return 0;
}

/* Returns the index of the row with this short name, which is in the table. */
static int find_short(const struct optable *table, int c)
{
	int i = 0;

	while (table->rows[i].short_name != c || !optable_takes(table, &table->rows[i]))
		i++;
	return i;
}

/*
 * Returns the index of the row of the next option, with *ret_value = its value or NULL;
 * WALK_OPERAND, with *ret_value = the word; WALK_END; or -EINVAL, with a message in error. Values
 * point into argv.
 */
static int next_option(struct walk *w, const char **ret_value, char error[OPTABLE_ERROR_LEN])
{
	/* In a word of several short options optind stays until its last one. */
	const int at = optind > 0 ? optind : 1;
	int c = -1, r;

	if (!w->ended)
		c = getopt_long(w->argc, w->argv, w->shorts, w->longs, NULL);
	if (c == -1) {
		w->ended = true;
		if (optind >= w->argc)
			return WALK_END;
		*ret_value = w->argv[optind++];
		return WALK_OPERAND;
	}
	*ret_value = optarg;
	if (c == 1) {
		w->ended = w->table->operands_last;
		return WALK_OPERAND;
	}
	if (c == '?' || c == ':')
		return refuse_option(w, w->argv[at], c == ':', error);
	r = check_option(w, w->argv[at], c, optind == at + 2 ? optarg : NULL, error);
	if (r < 0)
		return r;
	return c >= LONG ? c - LONG : find_short(w->table, c);
}

/* Where set_key() stores the keys of the file. */
struct key_target {
	const struct optable *table;
	void *options;
	struct optparse_given *given;
};

_Static_assert(OPTABLE_ERROR_LEN == CONFIGFILE_ERROR_LEN, "one message for both");

static int set_key(void *data, const char *key, const char *value, unsigned int line,
		   char error[CONFIGFILE_ERROR_LEN])
{
	const struct key_target *target = data;
	const struct optable *table = target->table;
	size_t i;

	for (i = 0; i < table->n_rows; i++) {
		if (!(table->rows[i].flags & OPTABLE_KEY) || strcmp(key, table->rows[i].name) != 0)
			continue;
		target->given->in_file |= UINT64_C(1) << i;
		target->given->lines[i] = line;
		return optable_set(&table->rows[i], target->options, value, line, error);
	}
	return optable_refuse(error, "unknown key");
}

static bool may_repeat(const void *data, const char *key)
{
	const struct key_target *target = data;
	const struct optable *table = target->table;
	size_t i;

	for (i = 0; i < table->n_rows; i++) {
		if (table->rows[i].flags & OPTABLE_KEY && strcmp(key, table->rows[i].name) == 0)
			return table->rows[i].flags & OPTABLE_REPEATED;
	}
	return false;
}

static int begin_other(void *data, const char *section, const char *name, unsigned int line,
		       char error[CONFIGFILE_ERROR_LEN])
{
	const struct key_target *target = data;

	return target->table->begin_section(target->options, section, name, line, error);
}

static int set_in_other(void *data, const char *key, const char *value, unsigned int line,
			char error[CONFIGFILE_ERROR_LEN])
{
	const struct key_target *target = data;

	return target->table->set_in_section(target->options, key, value, line, error);
}

static int read_config(const struct optable *table, const char *path, void *options,
		       struct optparse_given *given)
{
	struct key_target target = { .table = table, .options = options, .given = given };
	struct configfile file = {
		.path = path,
		.section = table->section,
		.may_repeat = may_repeat,
		.set = set_key,
		.begin = table->begin_section ? begin_other : NULL,
		.set_other = table->set_in_section ? set_in_other : NULL,
		.data = &target,
	};
	const struct optable_row *row;
	char error[OPTABLE_ERROR_LEN];

	for (row = table->rows; row < table->rows + table->n_rows; row++) {
		if (row->type != OPTABLE_TYPE_CONFIG)
			continue;
		if (optable_path(path, (char *)options + row->offset, error) < 0)
			return optparse_usage_error(table, "--%s: %s", row->name, error);
	}
	if (configfile_read(&file) < 0)
		return -EINVAL;
	given->file_has_others = file.others;
	return 0;
}

/* Answers --help and the like. Returns 1, or 0 for another option. */
static int answer(const struct optable *table, const struct optable_row *row)
{
	if (row->type == OPTABLE_TYPE_HELP) {
		opthelp_print(table);
		return 1;
	}
	if (row->type == OPTABLE_TYPE_VERSION) {
		printf("%s %s, ABI version %d\n", table->program, table->version,
		       TPROXY_ABI_VERSION);
		return 1;
	}
	return 0;
}

/*
 * Walks argv. With options NULL it only checks the form, finds the configuration file and answers
 * --help and --version; otherwise it sets all options. Returns 0, 1 if it answered, or -EINVAL,
 * logged.
 */
static int walk(const struct optable *table, int argc, char **argv, void *options,
		struct optparse_given *given, const char **config)
{
	char error[OPTABLE_ERROR_LEN];
	const struct optable_row *row;
	const char *value;
	struct walk w;
	int i;

	walk_init(&w, table, argc, argv);
	while ((i = next_option(&w, &value, error)) != WALK_END) {
		if (i == WALK_OPERAND) {
			if (!table->add_operand)
				return optparse_usage_error(table, "unexpected argument '%s'",
							    value);
			if (options && table->add_operand(options, value, error) < 0)
				return optparse_usage_error(table, "%s", error);
			continue;
		}
		if (i < 0)
			return optparse_usage_error(table, "%s", error);
		row = &table->rows[i];
		if (answer(table, row))
			return 1;
		if (!options && row->type == OPTABLE_TYPE_CONFIG) {
			if (*config)
				return optparse_usage_error(table,
							    "--%s was given twice: '%s' and '%s'",
							    row->name, *config, value);
			*config = value;
		}
		if (!options)
			continue;
		if (row->flags & OPTABLE_ONCE && given->on_command_line & UINT64_C(1) << i)
			return optparse_usage_error(table, "--%s was given twice: '%s' and '%s'",
						    row->name, (const char *)options + row->offset,
						    value);
		given->on_command_line |= UINT64_C(1) << i;
		if (optable_set(row, options, value ? value : "yes", 0, error) < 0)
			return optparse_usage_error(table, "--%s: %s", row->name, error);
	}
	return 0;
}

int optparse_read(const struct optable *table, int argc, char **argv, void *options,
		  struct optparse_given *ret_given)
{
	struct optparse_given given = {};
	const char *config = NULL;
	int r;

	/* Hidden: scripts and the build read the table from here. */
	if (argc == 2 && strcmp(argv[1], "--print-options") == 0) {
		opthelp_print_table(table);
		return 1;
	}
	r = walk(table, argc, argv, NULL, &given, &config);
	if (r)
		return r;
	optable_set_defaults(table, options);
	r = config ? read_config(table, config, options, &given) : 0;
	if (r == 0)
		r = walk(table, argc, argv, options, &given, &config);
	if (r == 0)
		*ret_given = given;
	return r;
}

unsigned int optparse_line(const struct optable *table, const struct optparse_given *given,
			   const char *name)
{
	size_t i = 0;

	while (strcmp(table->rows[i].name, name) != 0)
		i++;
	return given->on_command_line & (UINT64_C(1) << i) ? 0 : given->lines[i];
}

bool optparse_has(const struct optable *table, uint64_t set_of_rows, const char *name)
{
	size_t i = 0;

	while (strcmp(table->rows[i].name, name) != 0)
		i++;
	return set_of_rows & (UINT64_C(1) << i);
}
