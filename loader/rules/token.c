// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Splits a rule file into words, see token.h. A position moves forward over the text; nothing is
 * copied. Columns are counted in characters (UTF-8) while the position moves along a line.
 */
#include "token.h"

#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_control(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f;
}

static bool is_special(char c)
{
	return c == ',' || c == '=' || c == '"' || c == '#';
}

/* Returns the length of a backslash and the end of its line at s, or 0 if there is none. */
static size_t continuation_len(const char *s, const char *end)
{
	const char *p = s;

	if (p == end || *p != '\\')
		return 0;
	for (p++; p < end && is_blank(*p); p++)
		;
	if (p == end)
		return (size_t)(p - s);
	return *p == '\n' ? (size_t)(p + 1 - s) : 0;
}

static void begin_line(struct tokens *t)
{
	t->line = t->at;
	t->number++;
	t->counted = t->at;
	t->column = 1;
}

/* Moves over the end of a line, of n bytes. A backslash may end the file. */
static void next_line(struct tokens *t, size_t n)
{
	t->at += n;
	if (t->at[-1] == '\n')
		begin_line(t);
}

/* Returns the place of the position, len bytes long. */
static struct rules_place place(struct tokens *t, size_t len)
{
	struct rules_place at = { .line = t->number };
	size_t i;

	for (; t->counted < t->at; t->counted++) {
		if (((unsigned char)*t->counted & 0xc0) != 0x80)
			t->column++;
	}
	at.column = t->column;
	for (i = 0; i < len; i++) {
		if (((unsigned char)t->at[i] & 0xc0) != 0x80)
			at.len++;
	}
	return at;
}

/* Returns a word of len bytes at the position, and moves past it. */
static struct token take(struct tokens *t, enum token_type type, size_t len)
{
	struct token token = { .type = type, .text = t->at, .len = len };

	token.at = place(t, len);
	t->at += len;
	return token;
}

static struct token take_bad(struct tokens *t, size_t len, const char *expected)
{
	struct token token = take(t, TOKEN_BAD, len);

	token.expected = expected;
	return token;
}

static struct token take_quoted(struct tokens *t)
{
	const char *p = t->at + 1;
	struct token token;

	while (p < t->end && *p != '"' && (!is_control(*p) || *p == '\t'))
		p++;
	if (p == t->end || *p == '\n' || *p == '\r')
		return take_bad(t, (size_t)(p - t->at), "a closing quote");
	if (*p != '"') {
		t->at = p;
		return take_bad(t, 1, "printable text");
	}
	token = take(t, TOKEN_QUOTED, (size_t)(p + 1 - t->at));
	token.text++;
	token.len -= 2;
	return token;
}

static struct token take_word(struct tokens *t)
{
	const char *p = t->at;

	while (p < t->end && !is_blank(*p) && !is_special(*p) && !is_control(*p) &&
	       !continuation_len(p, t->end))
		p++;
	if (p == t->at)
		return take_bad(t, 1, "printable text");
	return take(t, TOKEN_WORD, (size_t)(p - t->at));
}

static void skip_blanks(struct tokens *t)
{
	size_t len;

	for (;;) {
		while (t->at < t->end && is_blank(*t->at))
			t->at++;
		len = continuation_len(t->at, t->end);
		if (!len)
			break;
		next_line(t, len);
	}
	if (t->at < t->end && *t->at == '#') {
		while (t->at < t->end && *t->at != '\n')
			t->at++;
	}
}

const char *tokens_begin(const char *text, size_t len)
{
	static const char byte_order_mark[3] = "\xef\xbb\xbf";
	const bool has_mark = len >= sizeof(byte_order_mark) &&
			      memcmp(text, byte_order_mark, sizeof(byte_order_mark)) == 0;

	return has_mark ? text + sizeof(byte_order_mark) : text;
}

void tokens_init(struct tokens *tokens, const char *text, size_t len)
{
	*tokens = (struct tokens){ .at = tokens_begin(text, len), .end = text + len };
	begin_line(tokens);
}

struct token tokens_next(struct tokens *tokens)
{
	struct token token;

	skip_blanks(tokens);
	if (tokens->at == tokens->end)
		return take(tokens, TOKEN_END, 0);
	switch (*tokens->at) {
	case '\n':
		token = take(tokens, TOKEN_END, 0);
		next_line(tokens, 1);
		return token;
	case ',':
		return take(tokens, TOKEN_COMMA, 1);
	case '=':
		return take(tokens, TOKEN_EQUALS, 1);
	case '"':
		return take_quoted(tokens);
	default:
		return take_word(tokens);
	}
}

bool tokens_at_end(const struct tokens *tokens)
{
	return tokens->at == tokens->end;
}

bool token_is(const struct token *token, const char *word)
{
	return token->type == TOKEN_WORD && token->len == strlen(word) &&
	       memcmp(token->text, word, token->len) == 0;
}
