// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Looks up names, see resolve.h. Each name is looked up once, when the rules are compiled, because
 * connect() cannot wait for a name server. A host name stands for all its addresses. All names are
 * tried, so that all errors are reported at once.
 */
#include "resolve.h"

#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "host/address.h"
#include "host/cgroup.h"
#include "netset.h"
#include "parsed.h"
#include "rules.h"
#include "source.h"
#include "tproxy_abi.h"
#include "util.h"

/* A million addresses take some 16 MB as text. */
#define LIST_FILE_MAX (256 * 1024 * 1024)

struct resolver {
	const struct source *source;
	const struct rules_options *options;
	bool is_exception; /* the conditions after unless: they may name any cgroup */
	size_t n_skipped;  /* names that were not looked up */
	struct rules_place skipped_at;
};

/* Adds the addresses of a host to the list. Returns 0, -EINVAL or -ENOMEM. */
static int resolve_host(const struct resolver *r, struct parsed_list *list,
			const struct parsed_item *item)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL, *one;
	__u8 addr[16];
	int error = getaddrinfo(item->word, NULL, &hints, &found), added = 0;

	if (error) {
		source_error(r->source, item->at, "host \"%s\" does not resolve: %s", item->word,
			     error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
		return error == EAI_MEMORY ? -ENOMEM : -EINVAL;
	}
	for (one = found; one && added == 0; one = one->ai_next) {
		if (one->ai_family == AF_INET)
			address_map4(addr, &((struct sockaddr_in *)one->ai_addr)->sin_addr);
		else if (one->ai_family == AF_INET6)
			memcpy(addr, &((struct sockaddr_in6 *)one->ai_addr)->sin6_addr,
			       sizeof(addr));
		else
			continue;
		added = prefixes_add_address(&list->prefixes, addr);
	}
	freeaddrinfo(found);
	return added;
}

/* Replaces the name of a user or group by its number. Returns 0 or -EINVAL. */
static int resolve_id(const struct resolver *r, struct parsed_item *item)
{
	const bool user = item->type == PARSED_USER;
	const struct passwd *passwd = user ? getpwnam(item->word) : NULL;
	const struct group *group = user ? NULL : getgrnam(item->word);

	if (!passwd && !group) {
		source_error(r->source, item->at, "%s \"%s\" does not exist",
			     user ? "user" : "group", item->word);
		return -EINVAL;
	}
	item->type = PARSED_NUMBERS;
	item->number_first = passwd ? passwd->pw_uid : group->gr_gid;
	item->number_last = item->number_first;
	return 0;
}

/*
 * Opens a cgroup by a path that begins at the mount of cgroup2, or at the root of the hierarchy.
 */
static int open_cgroup(const char *path, struct cgroup *ret_cgroup)
{
	_cleanup_free_ char *root = NULL, *below = NULL;
	int r = cgroup_root(&root);

	if (r < 0)
		return r == -ENOENT ? -ENODEV : r;
	if (strncmp(path, root, strlen(root)) == 0 &&
	    (path[strlen(root)] == '/' || path[strlen(root)] == '\0'))
		return cgroup_open(path, ret_cgroup);
	if (asprintf(&below, "%s/%s", root, path) < 0)
		return -ENOMEM;
	return cgroup_open(below, ret_cgroup);
}

/* Returns true if processes of the cgroup, or of one below it, can be in scope. */
static bool is_in_scope(const struct rules_options *options, const struct cgroup *cgroup)
{
	size_t i;

	for (i = 0; options->scopes && i < options->n_scopes; i++) {
		if (cgroup_is_within(cgroup, &options->scopes[i]) ||
		    cgroup_is_within(&options->scopes[i], cgroup))
			return true;
	}
	return !options->scopes;
}

static int resolve_cgroup(const struct resolver *r, struct parsed_item *item)
{
	bool in_scope;
	struct cgroup cgroup = CGROUP_NULL;
	const int error = open_cgroup(item->word, &cgroup);

	if (error == -ENOENT)
		source_error(r->source, item->at,
			     "cgroup \"%s\" does not exist; use name:%s for a unit that comes and "
			     "goes",
			     item->word,
			     strrchr(item->word, '/') ? strrchr(item->word, '/') + 1 : item->word);
	else if (error == -ENODEV)
		source_error(r->source, item->at, "cgroup \"%s\": cgroup2 is not mounted",
			     item->word);
	else if (error < 0)
		source_error(r->source, item->at, "cgroup \"%s\"%s %s", item->word,
			     error == -EXDEV ? "" : ":", cgroup_strerror(error));
	if (error < 0)
		return error == -ENOMEM ? error : -EINVAL;
	item->cgroup_id = cgroup.id;
	item->cgroup_level = cgroup.level;
	in_scope = r->is_exception || is_in_scope(r->options, &cgroup);
	cgroup_close(&cgroup);
	if (!in_scope) {
		source_error(r->source, item->at,
			     "cgroup \"%s\" is outside of the cgroups that the rules are for, so "
			     "the rule would apply to no process",
			     item->word);
		return -EINVAL;
	}
	if (item->cgroup_level < TPROXY_CGROUP_LEVELS_MAX)
		return 0;
	source_error(r->source, item->at,
		     "cgroup \"%s\" is %u levels below the root; rules see %d at most", item->word,
		     item->cgroup_level, TPROXY_CGROUP_LEVELS_MAX - 1);
	return -EINVAL;
}

static int resolve_item(struct resolver *r, struct parsed_list *list, size_t i)
{
	struct parsed_item *item = &list->items[i];
	const bool is_name = item->type == PARSED_HOST || item->type == PARSED_USER ||
			     item->type == PARSED_GROUP || item->type == PARSED_CGROUP_PATH;

	if (!is_name)
		return 0;
	if (r->options->no_resolve) {
		if (!r->n_skipped++)
			r->skipped_at = item->at;
		return 0;
	}
	if (item->type == PARSED_HOST)
		return resolve_host(r, list, item);
	if (item->type == PARSED_CGROUP_PATH)
		return resolve_cgroup(r, item);
	return resolve_id(r, item);
}

/* Keeps the first error, but -ENOMEM takes precedence. */
static int worst(int r, int other)
{
	return other == -ENOMEM || r == 0 ? other : r;
}

static int resolve_list(struct resolver *r, struct parsed_list *list)
{
	int result = 0;
	size_t i;

	for (i = 0; i < list->n_items; i++)
		result = worst(result, resolve_item(r, list, i));
	return result;
}

static int resolve_conditions(struct resolver *r, struct parsed_conditions *conditions)
{
	int result = 0;
	size_t i;

	for (i = 0; i < _PARSED_CONDITION_MAX; i++)
		result = worst(result, resolve_list(r, &conditions->lists[i]));
	return result;
}

static void note_counts(const struct resolver *r, const struct parsed_set *set,
			const struct netset_counts *counts)
{
	if (counts->n_masked)
		source_note(r->source, set->file_at,
			    "%zu of the list's CIDRs have bits beyond their length, which are "
			    "ignored",
			    counts->n_masked);
	if (counts->n_loopback)
		source_note(r->source, set->file_at,
			    "%zu of the list's entries are loopback addresses, which are left out: "
			    "only rules that name them apply to these",
			    counts->n_loopback);
	if (!set->list.prefixes.n)
		source_note(r->source, set->file_at, "the list is empty");
}

/* Reads the list file of a set. Returns 0, -EINVAL or -ENOMEM. */
static int read_list(const struct resolver *r, struct parsed_set *set)
{
	_cleanup_free_ char *path = file_beside(r->source->file, set->file), *text = NULL;
	const size_t before = r->source->messages->n_errors;
	struct netset_counts counts;
	struct source list = { .file = path, .messages = r->source->messages };
	int error;

	if (!path)
		return -ENOMEM;
	/* Whoever may write the directory of a list must not be able to keep a loader waiting. */
	error = file_read(path, LIST_FILE_MAX, /* may_wait= */ false, &text, &list.len);
	if (error < 0) {
		source_error(r->source, set->file_at, "list \"%s\": %s", path,
			     error == -ESPIPE ? "is a pipe" : strerror(-error));
		return error == -ENOMEM ? error : -EINVAL;
	}
	list.text = text;
	error = netset_read(&list, &set->list.prefixes, &counts);
	if (error < 0)
		return error;
	if (r->source->messages->n_errors > before)
		return -EINVAL;
	note_counts(r, set, &counts);
	return 0;
}

int resolve_names(const struct source *source, const struct rules_options *options,
		  struct parsed *parsed)
{
	struct resolver r = { .source = source, .options = options };
	int result = 0;
	size_t i, k;

	for (i = 0; i < parsed->n_sets; i++) {
		if (parsed->sets[i].file)
			result = worst(result, read_list(&r, &parsed->sets[i]));
		result = worst(result, resolve_list(&r, &parsed->sets[i].list));
	}
	for (i = 0; i < parsed->n_rules; i++) {
		struct parsed_rule *rule = &parsed->rules[i];

		result = worst(result, resolve_conditions(&r, &rule->conditions));
		r.is_exception = true;
		for (k = 0; k < rule->n_unless; k++)
			result = worst(result, resolve_conditions(&r, &rule->unless[k]));
		r.is_exception = false;
	}
	if (r.n_skipped)
		source_note(
			source, r.skipped_at,
			"names of hosts, users, groups and cgroups were not looked up: %zu, from "
			"this one on",
			r.n_skipped);
	return result;
}
