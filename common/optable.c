// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See optable.h. */
#include "optable.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

bool optable_takes(const struct optable *table, const struct optable_row *row)
{
	return !row->commands || (row->commands & table->command);
}

char *optable_format(const struct optable_row *row, uint64_t value, char buf[OPTABLE_VALUE_LEN])
{
	static const struct {
		enum optable_type type;
		uint64_t size;
		const char *name;
	} units[] = {
		{ OPTABLE_TYPE_SIZE, 1 << 30, "G" },
		{ OPTABLE_TYPE_SIZE, 1 << 20, "M" },
		{ OPTABLE_TYPE_SIZE, 1 << 10, "K" },
		{ OPTABLE_TYPE_DURATION, 3600 * 1000, "h" },
		{ OPTABLE_TYPE_DURATION, 60 * 1000, "m" },
		{ OPTABLE_TYPE_DURATION, 1000, "s" },
		{ OPTABLE_TYPE_DURATION, 1, "ms" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(units); i++) {
		if (units[i].type != row->type || value % units[i].size || value == 0)
			continue;
		snprintf(buf, OPTABLE_VALUE_LEN, "%" PRIu64 "%s", value / units[i].size,
			 units[i].name);
		return buf;
	}
	snprintf(buf, OPTABLE_VALUE_LEN, "%" PRIu64, value);
	return buf;
}

static int set_flag(bool *flag, const char *value, char error[OPTABLE_ERROR_LEN])
{
	if (parse_bool(value, flag) < 0)
		return optable_refuse(error, "'%s' is neither yes nor no", value);
	return 0;
}

int optable_path(const char *value, char ret_path[PATH_MAX], char error[OPTABLE_ERROR_LEN])
{
	if (!*value || strlen(value) >= PATH_MAX)
		return optable_refuse(error, "the path is %s", *value ? "too long" : "empty");
	strcpy(ret_path, value);
	return 0;
}

int optable_number(const struct optable_row *row, const char *value, uint32_t *ret_number,
		   char error[OPTABLE_ERROR_LEN])
{
	if (parse_u32(value, (uint32_t)row->min, (uint32_t)row->max, ret_number) < 0)
		return optable_refuse(error, "'%s' is not a number from %" PRIu64 " to %" PRIu64,
				      value, row->min, row->max);
	return 0;
}

static int set_size(const struct optable_row *row, uint32_t *bytes, const char *value,
		    char error[OPTABLE_ERROR_LEN])
{
	char min[OPTABLE_VALUE_LEN], max[OPTABLE_VALUE_LEN];
	const bool zero = row->flags & OPTABLE_ZERO;

	if (zero && strcmp(value, "0") == 0) {
		*bytes = 0;
		return 0;
	}
	if (parse_size(value, (uint32_t)row->min, (uint32_t)row->max, bytes) < 0)
		return optable_refuse(error, "'%s' is not a size from %s to %s, such as 64K%s",
				      value, optable_format(row, row->min, min),
				      optable_format(row, row->max, max),
				      zero ? ", or 0 for none" : "");
	return 0;
}

static int set_duration(const struct optable_row *row, uint64_t *ms, const char *value,
			char error[OPTABLE_ERROR_LEN])
{
	const uint64_t unit = row->unit ? row->unit : 1;
	const bool zero = !(row->flags & OPTABLE_POSITIVE);
	char min[OPTABLE_VALUE_LEN], max[OPTABLE_VALUE_LEN];
	uint64_t parsed;

	if (parse_duration_ms(value, &parsed) == 0 && parsed % unit == 0 &&
	    ((parsed == 0 && zero) || (parsed >= row->min && parsed <= row->max))) {
		*ms = parsed;
		return 0;
	}
	return optable_refuse(error, "'%s' is not a duration%s from %s to %s, such as %s5m%s",
			      value, unit == 1000 ? " of whole seconds" : "",
			      optable_format(row, row->min, min),
			      optable_format(row, row->max, max),
			      unit == 1 && row->min <= 500 ? "500ms, 10s, " : "10s, ",
			      zero ? ", or 0 for never" : "");
}

static int set_word(const struct optable_row *row, void *index, const char *value,
		    char error[OPTABLE_ERROR_LEN])
{
	size_t used = 0;
	unsigned int i;

	assert(row->size == sizeof(i));
	for (i = 0; row->words[i]; i++) {
		if (strcmp(value, row->words[i]) != 0)
			continue;
		memcpy(index, &i, sizeof(i));
		return 0;
	}
	used = (size_t)snprintf(error, OPTABLE_ERROR_LEN, "'%s' is not one of", value);
	for (i = 0; row->words[i] && used < OPTABLE_ERROR_LEN; i++)
		used += (size_t)snprintf(error + used, OPTABLE_ERROR_LEN - used, "%s %s",
					 i > 0 ? "," : "", row->words[i]);
	return -EINVAL;
}

int optable_set(const struct optable_row *row, void *options, const char *value, unsigned int line,
		char error[OPTABLE_ERROR_LEN])
{
	void *member = (char *)options + row->offset;

	switch (row->type) {
	case OPTABLE_TYPE_FLAG:
		return set_flag(member, value, error);
	case OPTABLE_TYPE_PATH:
		return optable_path(value, member, error);
	case OPTABLE_TYPE_NUMBER:
		return optable_number(row, value, member, error);
	case OPTABLE_TYPE_SIZE:
		return set_size(row, member, value, error);
	case OPTABLE_TYPE_DURATION:
		return set_duration(row, member, value, error);
	case OPTABLE_TYPE_WORD:
		return set_word(row, member, value, error);
	case OPTABLE_TYPE_CUSTOM:
		return row->set(row, options, value, line, error);
	case OPTABLE_TYPE_CONFIG:
	case OPTABLE_TYPE_HELP:
	case OPTABLE_TYPE_VERSION:
		break; /* optparse_read() handles them */
	}
	return 0;
}

void optable_set_defaults(const struct optable *table, void *options)
{
	char error[OPTABLE_ERROR_LEN];
	const struct optable_row *row;
	int r;

	for (row = table->rows; row < table->rows + table->n_rows; row++) {
		r = row->by_default ? optable_set(row, options, row->by_default, 0, error) : 0;
		assert(r == 0);
	}
}

const char *optable_changed(const struct optable *table, const void *before, const void *after)
{
	const struct optable_row *row;
	const char *a, *b;

	for (row = table->rows; row < table->rows + table->n_rows; row++) {
		a = (const char *)before + row->offset;
		b = (const char *)after + row->offset;
		if ((row->flags & OPTABLE_FIXED) &&
		    (row->type == OPTABLE_TYPE_PATH ? strcmp(a, b) : memcmp(a, b, row->size)) != 0)
			return row->name;
	}
	return NULL;
}
