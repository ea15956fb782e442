// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See quote.h. */
#include "quote.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_printable(char c)
{
	return c >= 0x20 && c < 0x7f;
}

static bool all_printable(const char *text)
{
	while (is_printable(*text))
		text++;
	return !*text;
}

/*
 * Quote and backslash are escaped by number too: a shell without $'' would see the word end there.
 */
static char *put_escaped(char *out, char c)
{
	if (is_printable(c) && c != '\'' && c != '\\') {
		*out++ = c;
		return out;
	}
	return out + sprintf(out, "\\%03o", (unsigned char)c);
}

static char *put_plain(char *out, char c)
{
	if (c == '\'')
		return stpcpy(out, "'\\''");
	*out++ = c;
	return out;
}

char *shell_quote(const char *text, char *buf, size_t size)
{
	const bool plain = all_printable(text);
	char *out = buf;

	if (SHELL_QUOTE_LEN(strlen(text)) > size)
		text = "";
	if (!plain)
		*out++ = '$';
	*out++ = '\'';
	for (; *text; text++)
		out = plain ? put_plain(out, *text) : put_escaped(out, *text);
	*out++ = '\'';
	*out = '\0';
	return buf;
}
