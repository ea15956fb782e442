// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See opthelp.h. */
#include "opthelp.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "optable.h"
#include "util.h"

#define LINE_LEN   80
#define COLUMN_MAX 34 /* of the help texts; a longer option has a line of its own */
#define TEXT_LEN   512
#define RANGE_LEN  256

static int format_names(const struct optable_row *row, char text[TEXT_LEN])
{
	const char dash[] = { '-', row->short_name, ',', ' ', '\0' };

	return snprintf(text, TEXT_LEN, "  %s--%s%s%s", row->short_name ? dash : "    ", row->name,
			row->arg ? " " : "", row->arg ? row->arg : "");
}

/* "1 to 64", "64K to 1M, or 0", "text, json, none" or "". */
static void format_range(const struct optable_row *row, char text[RANGE_LEN])
{
	char min[OPTABLE_VALUE_LEN], max[OPTABLE_VALUE_LEN];
	size_t used = 0, i;

	*text = '\0';
	for (i = 0; row->words && row->words[i] && used < RANGE_LEN; i++)
		used += (size_t)snprintf(text + used, RANGE_LEN - used, "%s%s", i > 0 ? ", " : "",
					 row->words[i]);
	/* The notes of --help have the range of durations. */
	if (row->max && row->max != PARSE_DURATION_MAX_MS)
		snprintf(text, RANGE_LEN, "%s to %s%s", optable_format(row, row->min, min),
			 optable_format(row, row->max, max),
			 row->flags & OPTABLE_ZERO ? ", or 0" : "");
}

static const char *default_of(const struct optable_row *row)
{
	if (row->default_text)
		return row->default_text;
	return row->by_default ? row->by_default : "";
}

/* The name of the command if only one takes the option and the table is for several, or NULL. */
static const char *only_command(const struct optable *table, const struct optable_row *row)
{
	const bool several = table->command & (table->command - 1);
	size_t i;

	for (i = 1; several && table->commands && table->commands[i]; i++) {
		if (row->commands == 1U << i)
			return table->commands[i];
	}
	return NULL;
}

/* The help text, followed by range and default in parentheses. */
static void format_help(const struct optable *table, const struct optable_row *row,
			char text[TEXT_LEN])
{
	const char *def = default_of(row), *command = only_command(table, row);
	char range[RANGE_LEN];

	format_range(row, range);
	if (*range || *def)
		snprintf(text, TEXT_LEN, "%s%s%s (%s%s%s%s)", command ? command : "",
			 command ? ": " : "", row->help, range, *range && *def ? "; " : "",
			 *def ? "default: " : "", def);
	else
		snprintf(text, TEXT_LEN, "%s%s%s", command ? command : "", command ? ": " : "",
			 row->help);
}

/* Prints words at this column, the first line of which has used characters already. */
static void print_wrapped(const char *text, size_t column, size_t used)
{
	size_t len;

	if (used + 2 > column) {
		putchar('\n');
		used = 0;
	}
	printf("%*s", (int)(column - used), "");
	for (used = column; *text; text += len + strspn(text + len, " ")) {
		len = strcspn(text, " ");
		if (used > column && used + 1 + len > LINE_LEN) {
			printf("\n%*s", (int)column, "");
			used = column;
		} else if (used > column) {
			putchar(' ');
			used++;
		}
		printf("%.*s", (int)len, text);
		used += len;
	}
	putchar('\n');
}

void opthelp_print_options(const struct optable *table)
{
	char names[TEXT_LEN], help[TEXT_LEN];
	const struct optable_row *row, *end = table->rows + table->n_rows;
	size_t column = 0, len;

	for (row = table->rows; row < end; row++) {
		len = (size_t)format_names(row, names) + 2;
		if (optable_takes(table, row) && len > column && len <= COLUMN_MAX)
			column = len;
	}
	for (row = table->rows; row < end; row++) {
		if (!optable_takes(table, row))
			continue;
		len = (size_t)printf("%s", (format_names(row, names), names));
		format_help(table, row, help);
		print_wrapped(help, column, len);
	}
}

void opthelp_print(const struct optable *table)
{
	printf("Usage: %s\n%s\n", table->usage, table->about);
	opthelp_print_options(table);
	if (table->notes)
		printf("\n%s", table->notes);
}

static void print_commands(const struct optable *table, const struct optable_row *row)
{
	bool first = true;
	size_t i;

	for (i = 0; table->commands && table->commands[i]; i++) {
		if (row->commands && !(row->commands & (1U << i)))
			continue;
		printf("%s%s", first ? "" : " ", table->commands[i]);
		first = false;
	}
}

void opthelp_print_table(const struct optable *table)
{
	static const char *const types[] = {
		[OPTABLE_TYPE_FLAG] = "flag",	      [OPTABLE_TYPE_PATH] = "path",
		[OPTABLE_TYPE_NUMBER] = "number",     [OPTABLE_TYPE_SIZE] = "size",
		[OPTABLE_TYPE_DURATION] = "duration", [OPTABLE_TYPE_WORD] = "word",
		[OPTABLE_TYPE_CUSTOM] = "custom",     [OPTABLE_TYPE_CONFIG] = "config",
		[OPTABLE_TYPE_HELP] = "help",	      [OPTABLE_TYPE_VERSION] = "version",
	};
	const struct optable_row *row;
	char range[RANGE_LEN];

	for (row = table->rows; row < table->rows + table->n_rows; row++) {
		const char letter[] = { row->short_name, '\0' };

		format_range(row, range);
		printf("%s\t%s\t%s\t%s\t%s%s%s\t%s\t%s\t", row->name, letter,
		       row->arg ? row->arg : "", types[row->type],
		       row->flags & OPTABLE_KEY ? "key " : "",
		       row->flags & OPTABLE_FIXED ? "fixed " : "",
		       row->flags & OPTABLE_REPEATED ? "repeated " : "", range, default_of(row));
		print_commands(table, row);
		printf("\t%s\n", row->help);
	}
}
