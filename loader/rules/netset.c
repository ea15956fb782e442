// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Reads list files, see netset.h. A published list is not written for this host. So bits beyond the
 * length of a CIDR are cleared. Loopback addresses, which lists of reserved networks often contain,
 * are left out: a rule for loopback addresses has to name them itself. A byte order mark is
 * skipped, as in a rule file.
 */
#include "netset.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "prefix.h"
#include "source.h"
#include "token.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts the comment and the blanks at both ends off a line. */
static const char *trim(const char *line, const char **end)
{
	const char *p;

	for (p = line; p < *end; p++) {
		if (*p == '#' || *p == ';') {
			*end = p;
			break;
		}
	}
	while (line < *end && is_blank(*line))
		line++;
	while (line < *end && is_blank((*end)[-1]))
		--*end;
	return line;
}

/* Removes the prefixes of loopback addresses from the index @from on. */
static void drop_loopback(struct prefixes *prefixes, size_t from, struct netset_counts *counts)
{
	size_t i, kept = from;

	for (i = from; i < prefixes->n; i++) {
		if (!prefix_is_loopback(&prefixes->list[i]))
			prefixes->list[kept++] = prefixes->list[i];
	}
	counts->n_loopback += kept < prefixes->n;
	prefixes->n = kept;
}

static const char *explain(enum prefix_result result)
{
	switch (result) {
	case PREFIX_NO_LENGTH:
		return "a prefix length of the address's family";
	case PREFIX_BACKWARDS:
		return "a range from a lower to a higher address of one family";
	default:
		return "an address, a CIDR or a range of addresses";
	}
}

int netset_read(const struct source *source, struct prefixes *prefixes,
		struct netset_counts *ret_counts)
{
	const char *line = tokens_begin(source->text, source->len);
	const char *end = source->text + source->len, *newline, *word, *stop;
	struct rules_place at = {};
	enum prefix_result result;
	size_t before;

	*ret_counts = (struct netset_counts){};
	for (; line < end; line = newline < end ? newline + 1 : end) {
		at.line++;
		newline = memchr(line, '\n', (size_t)(end - line));
		newline = newline ? newline : end;
		stop = newline;
		word = trim(line, &stop);
		if (word == stop)
			continue;
		before = prefixes->n;
		result = prefixes_parse(prefixes, word, (size_t)(stop - word), true);
		if (result == PREFIX_NO_MEMORY)
			return -ENOMEM;
		ret_counts->n_masked += result == PREFIX_MASKED;
		if (result == PREFIX_OK || result == PREFIX_MASKED) {
			drop_loopback(prefixes, before, ret_counts);
			continue;
		}
		at.column = (unsigned int)(word - line) + 1;
		at.len = (unsigned int)(stop - word);
		if (memchr(word, '\0', (size_t)(stop - word)))
			source_error(source, at, "expected %s, found a NUL byte", explain(result));
		else
			source_error(source, at, "expected %s, found \"%.*s\"", explain(result),
				     (int)(stop - word < 80 ? stop - word : 80), word);
	}
	return 0;
}
