// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Makes the text of a rule independent of its layout, see text.h. */
#include "text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "escape.h"
#include "fnv.h"
#include "token.h"

/* A backslash at the end of the text would continue the line, so such a word is quoted. */
static bool needs_quotes(const struct token *token)
{
	return token->type == TOKEN_QUOTED ||
	       (token->len > 0 && token->text[token->len - 1] == '\\');
}

char *text_of_statement(const char *statement, size_t len)
{
	struct tokens tokens;
	struct token token;
	char *text = NULL, *word;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	tokens_init(&tokens, statement, len);
	for (token = tokens_next(&tokens); token.type != TOKEN_END; token = tokens_next(&tokens)) {
		word = malloc(ESCAPE_LEN(token.len));
		if (!word) {
			fclose(out);
			free(text);
			return NULL;
		}
		escape_text(token.text, token.len, word, ESCAPE_LEN(token.len));
		if (token.type != TOKEN_COMMA && ftell(out) > 0)
			fputc(' ', out);
		fprintf(out, needs_quotes(&token) ? "\"%s\"" : "%s", word);
		free(word);
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

uint64_t text_hash(const char *text)
{
	const uint64_t hash = fnv64(FNV64_BASIS, text, strlen(text));

	return hash ? hash : 1;
}
