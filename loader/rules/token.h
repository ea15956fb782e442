/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The words of a rule file. Blanks separate words; a comma and an equals sign are words of their
 * own. A word in quotes may have any printable text except a quote. '#' begins a comment. A
 * statement ends with its line, unless a backslash is the last character.
 */
#ifndef TPROXY_RULES_TOKEN_H
#define TPROXY_RULES_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "message.h"

enum token_type {
	TOKEN_END, /* of a statement, or of the file */
	TOKEN_WORD,
	TOKEN_QUOTED, /* text and len are without the quotes */
	TOKEN_COMMA,
	TOKEN_EQUALS,
	TOKEN_BAD, /* no word can begin here; see struct token.expected */
};

struct token {
	enum token_type type;
	const char *text;
	size_t len;
	struct rules_place at;
	const char *expected; /* TOKEN_BAD only */
};

struct tokens {
	const char *at, *end, *line; /* the position, the end of the text, the start of the line */
	unsigned int number;	     /* of the line */
	const char *counted;	     /* up to here column is known */
	unsigned int column;
};

/* Returns where the text begins after a byte order mark, if it has one. */
const char *tokens_begin(const char *text, size_t len);
void tokens_init(struct tokens *tokens, const char *text, size_t len);
/* Returns the next word. At the end of the file it returns TOKEN_END, and so on. */
struct token tokens_next(struct tokens *tokens);
bool tokens_at_end(const struct tokens *tokens);

bool token_is(const struct token *token, const char *word);

#endif
