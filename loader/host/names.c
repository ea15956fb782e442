// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See names.h. */
#include "names.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cgroup.h"
#include "escape.h"
#include "util.h"

char *names_cgroup(uint64_t id)
{
	_cleanup_free_ char *path = NULL;
	char *text = NULL;
	size_t size;
	int r;

	r = cgroup_path_by_id(id, &path);
	if (r < 0) {
		if (asprintf(&text, "(id %" PRIu64 ", %s)", id,
			     r == -ESTALE  ? "removed"
			     : r == -EXDEV ? "not visible here"
					   : strerror(-r)) < 0)
			return NULL;
		return text;
	}
	size = ESCAPE_LEN(strlen(path));
	text = malloc(size);
	return text ? escape_text(path, strlen(path), text, size) : NULL;
}

/* Returns a copy of the name of a user or group, or its number if @name is NULL. */
static char *name_or_id(const char *name, uint64_t id)
{
	char text[ESCAPE_LEN(LOGIN_NAME_MAX)];

	if (name)
		return strdup(escape_text(name, LOGIN_NAME_MAX, text, sizeof(text)));
	snprintf(text, sizeof(text), "%" PRIu64, id);
	return strdup(text);
}

char *names_user(uint64_t uid)
{
	const struct passwd *user = getpwuid((uid_t)uid);

	return name_or_id(user ? user->pw_name : NULL, uid);
}

char *names_group(uint64_t gid)
{
	const struct group *group = getgrgid((gid_t)gid);

	return name_or_id(group ? group->gr_name : NULL, gid);
}
