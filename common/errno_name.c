// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See errno_name.h. */
#include "errno_name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

static const struct {
	const char *name;
	int number;
} errnos[] = {
	{ "ECONNREFUSED", ECONNREFUSED },
	{ "EACCES", EACCES },
	{ "EPERM", EPERM },
	{ "ENETUNREACH", ENETUNREACH },
	{ "EHOSTUNREACH", EHOSTUNREACH },
	{ "ETIMEDOUT", ETIMEDOUT },
	{ "ECONNRESET", ECONNRESET },
	{ "ENETDOWN", ENETDOWN },
	{ "EADDRNOTAVAIL", EADDRNOTAVAIL },
};

int errno_from_name(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(errnos); i++) {
		if (strcmp(errnos[i].name, name) == 0)
			return errnos[i].number;
	}
	return 0;
}

char *errno_names(char buf[ERRNO_NAMES_LEN])
{
	size_t i, len = 0;

	for (i = 0; i < ARRAY_SIZE(errnos); i++)
		len += (size_t)snprintf(buf + len, ERRNO_NAMES_LEN - len, "%s%s", errnos[i].name,
					i + 2 == ARRAY_SIZE(errnos)   ? " or "
					: i + 1 == ARRAY_SIZE(errnos) ? ""
								      : ", ");
	return buf;
}
