/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table of `tproxyctl top` as text: which columns a view has, their cells and rows. The screen
 * and --once print the same rows.
 */
#ifndef TPROXY_CTL_TOP_TABLE_H
#define TPROXY_CTL_TOP_TABLE_H

#include "top_model.h"

/* Size of a buffer that is enough for a row. */
#define TOP_ROW_LEN 2048

/* Names of views and columns on the command line; NULL ends each list. */
extern const char *const top_by_names[_TOP_BY_MAX + 1];
extern const char *const top_column_names[_TOP_COLUMN_MAX + 1];

/* What a view of a model looks like. */
struct top_table {
	const struct top_model *model;
	const struct top_names *names;
	bool has_bytes; /* the source counts bytes */
	enum top_by by;
	size_t width[_TOP_COLUMN_MAX]; /* set by top_table_measure() */
};

/* Returns the columns of a view, in their order. */
const enum top_column *top_table_columns(enum top_by by, size_t *ret_n);

/*
 * Returns the column that is @steps to the right of a key of order, or to the left if negative;
 * TOP_RATE precedes the first column. Stays within the columns of the view. A key that the view
 * does not have counts as TOP_RATE.
 */
enum top_column top_table_move(enum top_by by, enum top_column column, int steps);

/* Returns true if lines of the view have the column, so that they can be sorted by it. */
bool top_table_has(enum top_by by, enum top_column column);

/* What stands over the column. */
const char *top_table_title(enum top_column column);

/* Makes columns as wide as these lines need, and at least as wide as they are by default. */
void top_table_measure(struct top_table *table, const struct top_line *lines, size_t n);

/* Write the titles, or a line, as one row without a newline. Return @row. */
char *top_table_head(const struct top_table *table, char row[TOP_ROW_LEN]);
char *top_table_row(const struct top_table *table, const struct top_line *line,
		    char row[TOP_ROW_LEN]);

/* Writes the sum of a view as one row: connections, rates and totals. Returns @row. */
char *top_table_sum(const struct top_table *table, const struct top_line *sum,
		    char row[TOP_ROW_LEN]);

#endif
