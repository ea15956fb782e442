// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See upstream_id.h. A relay refuses two upstreams with the same id when it reads their names, so
 * 32 bits are enough.
 */
#include "upstream_id.h"

#include <string.h>

#include "fnv.h"

/* isalnum() depends on the locale. */
static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

bool upstream_name_is_valid(const char *name, size_t len)
{
	size_t i;

	if (len == 0 || len >= UPSTREAM_NAME_LEN)
		return false;
	for (i = 0; i < len; i++) {
		if (!is_name_char(name[i]))
			return false;
	}
	return true;
}

uint32_t upstream_id(const char *name)
{
	const uint32_t id = fnv32(FNV32_BASIS, name, strlen(name));

	return id ? id : 1;
}
