// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * conn_row_parse() takes any line. One that is taken has the columns of a connection, and names
 * that fit; one that is refused changes nothing.
 */
#include "fuzz.h"

#include "../../common/conn_row.c"

static size_t count_blanks(const char *line)
{
	size_t n = 0;

	for (; *line; line++)
		n += *line == ' ';
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conn_row row, untouched;
	char *line = fuzz_string(data, size);
	char id[CONN_ROW_ID_LEN];

	memset(&untouched, 0xa5, sizeof(untouched));
	row = untouched;
	if (conn_row_parse(line, &row) < 0) {
		require(memcmp(&row, &untouched, sizeof(row)) == 0);
		free(line);
		return 0;
	}
	require(count_blanks(line) == _COLUMN_MAX - 1);
	require(memchr(row.comm, '\0', sizeof(row.comm)));
	require(memchr(row.rule, '\0', sizeof(row.rule)));
	require(memchr(row.cgroup, '\0', sizeof(row.cgroup)));
	require(strcmp(conn_verdict_name(row.verdict), "?") != 0);
	/* The id is printed as it was read. */
	conn_row_id(row.id, id);
	require(strncmp(line, id, strlen(id)) == 0 && line[strlen(id)] == ' ');
	free(line);
	return 0;
}
