// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See escape.h. Only printable ASCII passes. Other bytes may be a part of a UTF-8 character, which
 * a JSON parser rejects, or a character that reverses the direction of a line or is invisible.
 */
#include "escape.h"

char *escape_text(const char *text, size_t len, char *buf, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	char *out = buf, *end = buf + size;
	size_t i;

	for (i = 0; i < len && text[i]; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x20 && c < 0x7f) {
			if (end - out < 2)
				break;
			*out++ = (char)c;
			continue;
		}
		if (end - out < 5)
			break;
		*out++ = '\\';
		*out++ = 'x';
		*out++ = digits[c >> 4];
		*out++ = digits[c & 0xf];
	}
	*out = '\0';
	return buf;
}
