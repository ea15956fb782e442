// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Reads the files of `tproxyctl block --apply`, see file.h. A published list is not written for
 * this host: bits beyond the length of a CIDR are cleared, and loopback addresses, which are never
 * blocked, are left out.
 */
#include "file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "list.h"
#include "parse.h"
#include "rules/file.h"
#include "rules/message.h"
#include "rules/prefix.h"
#include "rules/source.h"
#include "rules/token.h"
#include "util.h"

/* Limit of a file's size: a million long lines. */
#define FILE_MAX (256U << 20)
/* Words of a line: block CIDR for DURATION. */
#define WORDS_MAX 4
#define NS_PER_MS UINT64_C(1000000)

struct word {
	const char *text;
	size_t len;
};

struct line {
	const char *begin;
	unsigned int number;
	struct word words[WORDS_MAX + 1];
	size_t n;
};

struct reader {
	const struct source *source;
	const struct tproxy_block_entry *like;
	uint64_t now;
	struct block_list *list;
	struct block_file_counts *counts;
	struct prefixes prefixes; /* of one line */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Finds the words of a line up to a comment. More than WORDS_MAX are one word too many. */
static void split(struct line *line, const char *end)
{
	const char *p = line->begin;

	line->n = 0;
	while (line->n <= WORDS_MAX) {
		struct word *word = &line->words[line->n];

		while (p < end && is_blank(*p))
			p++;
		if (p == end || *p == '#' || *p == ';')
			return;
		word->text = p;
		while (p < end && !is_blank(*p) && *p != '#' && *p != ';')
			p++;
		word->len = (size_t)(p - word->text);
		line->n++;
	}
}

static bool word_is(const struct line *line, size_t i, const char *text)
{
	const struct word *word = &line->words[i];

	return i < line->n && word->len == strlen(text) && memcmp(word->text, text, word->len) == 0;
}

static void add_error(const struct reader *reader, const struct line *line, size_t i,
		      const char *expected)
{
	const struct word *word = &line->words[i < line->n ? i : line->n - 1];
	const struct rules_place at = {
		.line = line->number,
		.column = (unsigned int)(word->text - line->begin) + 1,
		.len = (unsigned int)word->len,
	};

	if (i >= line->n)
		source_error(reader->source, at, "expected %s after \"%.*s\"", expected,
			     (int)(word->len < 80 ? word->len : 80), word->text);
	else if (memchr(word->text, '\0', word->len))
		source_error(reader->source, at, "expected %s, found a NUL byte", expected);
	else
		source_error(reader->source, at, "expected %s, found \"%.*s\"", expected,
			     (int)(word->len < 80 ? word->len : 80), word->text);
}

static const char *expected_by(enum prefix_result result)
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

/* Parses a duration. Returns false if the word is none. */
static bool parse_end(const struct reader *reader, const struct word *word, __u64 *ret_ends)
{
	char text[32];
	uint64_t ms;

	if (word->len >= sizeof(text) || memchr(word->text, '\0', word->len))
		return false;
	memcpy(text, word->text, word->len);
	text[word->len] = '\0';
	if (parse_duration_ms(text, &ms) < 0 || !ms)
		return false;
	*ret_ends = reader->now + ms * NS_PER_MS;
	return true;
}

/* Parses [for DURATION], from this word on. Returns false after an error. */
static bool parse_rest(const struct reader *reader, const struct line *line, size_t at,
		       struct tproxy_block_entry *entry)
{
	if (at == line->n)
		return true;
	if (!word_is(line, at, "for"))
		add_error(reader, line, at, "\"for DURATION\" or the end of the line");
	else if (at + 1 == line->n || !parse_end(reader, &line->words[at + 1], &entry->ends_ns))
		add_error(reader, line, at + 1, "a duration from 1ms to 7d, such as 90s, 2h or 7d");
	else if (at + 2 < line->n)
		add_error(reader, line, at + 2, "the end of the line");
	else
		return true;
	return false;
}

static int add_prefixes(struct reader *reader, enum tproxy_block_kind kind,
			const struct tproxy_block_entry *entry)
{
	struct block_items *items = &reader->list->kinds[kind];
	bool loopback = false;
	size_t i;

	for (i = 0; i < reader->prefixes.n; i++) {
		if (prefix_is_loopback(&reader->prefixes.list[i]))
			loopback = true;
		else if (block_items_add(items, &reader->prefixes.list[i], entry) < 0)
			return -ENOMEM;
	}
	reader->counts->n_loopback += loopback;
	return 0;
}

/* Returns 0, also after an error in the line, or -ENOMEM. */
static int read_line(struct reader *reader, const struct line *line)
{
	const bool allow = word_is(line, 0, "allow");
	const size_t at = allow || word_is(line, 0, "block");
	struct tproxy_block_entry entry = *reader->like;
	enum prefix_result result;

	if (at == line->n) {
		add_error(reader, line, at, expected_by(PREFIX_NO_ADDRESS));
		return 0;
	}
	reader->prefixes.n = 0;
	result = prefixes_parse(&reader->prefixes, line->words[at].text, line->words[at].len,
				/* mask= */ true);
	if (result == PREFIX_NO_MEMORY)
		return -ENOMEM;
	if (result != PREFIX_OK && result != PREFIX_MASKED) {
		add_error(reader, line, at, expected_by(result));
		return 0;
	}
	if (!parse_rest(reader, line, at + 1, &entry))
		return 0;
	reader->counts->n_masked += result == PREFIX_MASKED;
	return add_prefixes(reader, allow ? TPROXY_ALLOW : TPROXY_BLOCK, &entry);
}

int block_file_parse(const struct source *source, const struct tproxy_block_entry *like,
		     uint64_t now, struct block_list *list, struct block_file_counts *counts)
{
	struct reader reader = {
		.source = source, .like = like, .now = now, .list = list, .counts = counts
	};
	const char *end = source->text + source->len, *newline;
	struct line line = { .begin = tokens_begin(source->text, source->len) };
	int r = 0;

	for (; line.begin < end && r == 0; line.begin = newline < end ? newline + 1 : end) {
		line.number++;
		newline = memchr(line.begin, '\n', (size_t)(end - line.begin));
		newline = newline ? newline : end;
		split(&line, newline);
		if (line.n)
			r = read_line(&reader, &line);
	}
	prefixes_finish(&reader.prefixes);
	return r;
}

int block_file_read(const char *path, const struct tproxy_block_entry *like, uint64_t now,
		    struct block_list *list, struct block_file_counts *counts,
		    struct rules_messages *messages)
{
	const bool is_stdin = strcmp(path, "-") == 0;
	struct source source = { .file = is_stdin ? "<stdin>" : path, .messages = messages };
	_cleanup_free_ char *text = NULL;
	const struct rules_place whole = {};
	int r;

	r = file_read(is_stdin ? "/dev/stdin" : path, FILE_MAX, /* may_wait= */ true, &text,
		      &source.len);
	if (r == 0) {
		source.text = text;
		r = block_file_parse(&source, like, now, list, counts);
	}
	if (r < 0)
		source_error(&source, whole, "cannot read it: %s", strerror(-r));
	return r;
}
