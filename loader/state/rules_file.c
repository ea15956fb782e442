// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See rules_file.h. */
#include "rules_file.h"

#include <stdbool.h>
#include <stdlib.h>

#include "host/cgroup.h"
#include "rules/rules.h"
#include "target_list.h"
#include "tproxy_abi.h"
#include "util.h"

int rules_file_compile(const char *path, const struct cgroup *scopes, size_t n_scopes,
		       struct rules_compiled *ret_compiled)
{
	const struct rules_options options = { .scopes = scopes, .n_scopes = n_scopes };

	return rules_compile_file(path, &options, ret_compiled);
}

/*
 * Writes the scopes that exist, with the paths of the list. Returns false if it cannot be known
 * whether one exists.
 */
static bool existing_scopes(struct tproxy_target *list, size_t n, struct cgroup *scopes,
			    size_t *ret_n)
{
	size_t i;

	*ret_n = 0;
	for (i = 0; i < n; i++) {
		const enum target_state state = target_state_of(&list[i]);

		if (list[i].flags != TPROXY_TARGET_SCOPE)
			continue;
		if (state == TARGET_UNKNOWN)
			return false;
		if (state == TARGET_PRESENT)
			scopes[(*ret_n)++] = (struct cgroup){ .path = list[i].path, .fd = -1 };
	}
	return true;
}

int rules_file_compile_loaded(const char *path, const char *pin_dir,
			      struct rules_compiled *ret_compiled)
{
	_cleanup_free_ struct tproxy_target *list = NULL;
	_cleanup_free_ struct cgroup *scopes = calloc(TPROXY_TARGETS_MAX, sizeof(*scopes));
	size_t n = 0, n_scopes = 0;
	bool known;

	known = scopes && target_list_read_pinned(pin_dir, &list, &n) == 0 &&
		existing_scopes(list, n, scopes, &n_scopes);
	return rules_file_compile(path, known ? scopes : NULL, n_scopes, ret_compiled);
}
