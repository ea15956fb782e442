// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See host_name.h. */
#include "host_name.h"

#include <string.h>

#define LABEL_MAX 63

/* Returns c in lower case, or 0 if a name cannot have it. Does not depend on the locale. */
static char name_char(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')
		return (char)c;
	return 0;
}

/*
 * True if programs read the label, the last one of a name, as a part of an IPv4 address: decimal
 * digits, or 0x and hexadecimal digits (inet_aton(3)).
 */
static bool is_number(const char *label, size_t len)
{
	const char *digits = "0123456789";

	if (len >= 2 && label[0] == '0' && label[1] == 'x') {
		digits = "0123456789abcdef";
		label += 2;
	}
	return strspn(label, digits) == strlen(label);
}

bool host_name_copy(char ret_name[HOST_NAME_LEN], const void *text, size_t len)
{
	const unsigned char *from = text;
	char name[HOST_NAME_LEN];
	size_t i, label = 0;

	if (len > 0 && from[len - 1] == '.')
		len--;
	if (len == 0 || len > HOST_NAME_MAX_LEN)
		return false;
	for (i = 0; i < len; i++) {
		name[i] = from[i] == '.' ? '.' : name_char(from[i]);
		if (!name[i])
			return false;
		if (from[i] != '.' && i - label < LABEL_MAX)
			continue;
		if (from[i] != '.' || i == label)
			return false;
		label = i + 1;
	}
	name[len] = '\0';
	/* An empty label at the end: the name ended with two dots. */
	if (label == len || is_number(name + label, len - label))
		return false;
	memcpy(ret_name, name, len + 1);
	return true;
}

bool host_name_copy_authority(char ret_name[HOST_NAME_LEN], const void *text, size_t len)
{
	const unsigned char *from = text;
	size_t end = len;

	while (end > 0 && from[end - 1] >= '0' && from[end - 1] <= '9')
		end--;
	return host_name_copy(ret_name, text, end > 0 && from[end - 1] == ':' ? end - 1 : len);
}
