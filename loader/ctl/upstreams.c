// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl upstreams: the upstreams of the relay, which of them are up, since when and why not.
 * Only the relay knows that. It is asked for /upstreams.json at the address of its option --admin.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "host/admin_client.h"
#include "host/json.h"
#include "host/upstreams_answer.h"
#include "log.h"
#include "options.h"
#include "parse.h"
#include "util.h"

static const struct ctl_usage usage = {
	.command = CTL_UPSTREAMS,
	.synopsis = "[--admin ADDRESS] [--json]",
	.about =
		"Prints the upstreams of the relay: which are up, since when, why not, and what was\n"
		"sent through them. The relay must have an admin address. Exit status 1 if the relay\n"
		"does not answer.\n",
};

static const char *text_of(struct json_object *o, const char *key)
{
	return json_object_get_string(json_object_object_get(o, key));
}

static bool bool_of(struct json_object *o, const char *key)
{
	return json_object_get_boolean(json_object_object_get(o, key));
}

static char *duration_of(struct json_object *o, const char *key, char buf[FORMAT_DURATION_LEN])
{
	if (!json_object_object_get(o, key))
		return strcpy(buf, "-");
	return format_duration_ms(json_get_number(o, key), buf);
}

/* "squid, backup 3 (down)" */
static void print_members(struct json_object *group)
{
	struct json_object *members = json_object_object_get(group, "members"), *member;
	size_t i;

	printf("  %s of", text_of(group, "order"));
	for (i = 0; members && i < json_object_array_length(members); i++) {
		member = json_object_array_get_idx(members, i);
		printf("%s %s", i ? "," : "", text_of(member, "name"));
		if (json_get_number(member, "weight") > 1)
			printf(" %" PRIu64, json_get_number(member, "weight"));
		if (bool_of(member, "down"))
			printf(" (down)");
	}
	printf("\n");
}

/* The last failure, if the upstream is not up. */
static void print_why(struct json_object *u)
{
	char retry[FORMAT_DURATION_LEN];
	const char *why = text_of(u, "why"), *error = text_of(u, "error");
	const char *state = text_of(u, "state");

	if (!why || strcmp(state ? state : "up", "up") == 0)
		return;
	printf("  %s", why);
	if (error)
		printf(" (%s)", error);
	if (json_object_object_get(u, "retry_in_ms"))
		printf("; next dial in %s", duration_of(u, "retry_in_ms", retry));
	printf("\n");
}

static void print_upstream(struct json_object *u)
{
	char since[FORMAT_DURATION_LEN], dial[32] = "-", up[FORMAT_BYTES_LEN],
					 down[FORMAT_BYTES_LEN];
	const char *state = text_of(u, "state");

	if (json_get_number(u, "dial_us"))
		snprintf(dial, sizeof(dial), "%.1f ms",
			 (double)json_get_number(u, "dial_us") / 1e3);
	printf("%-16s %-7s %-8s %12s %8" PRIu64 " %8" PRIu64 " %10s %8" PRIu64 " %10s %10s %s%s\n",
	       text_of(u, "name"), text_of(u, "type"), state ? state : "-",
	       duration_of(u, "since_ms", since), json_get_number(u, "dials"),
	       json_get_number(u, "failed"), dial, json_get_number(u, "connections"),
	       format_bytes(json_get_number(u, "bytes_up"), up),
	       format_bytes(json_get_number(u, "bytes_down"), down),
	       text_of(u, "address") ? text_of(u, "address") : "-",
	       bool_of(u, "default") ? " (default)" : "");
	if (json_object_object_get(u, "members"))
		print_members(u);
	print_why(u);
}

static void print(struct json_object *root)
{
	struct json_object *list = json_object_object_get(root, "upstreams");
	size_t i;

	printf("%-16s %-7s %-8s %12s %8s %8s %10s %8s %10s %10s %s\n", "NAME", "TYPE", "STATE",
	       "SINCE", "DIALS", "FAILED", "DIAL TIME", "NOW", "UP", "DOWN", "ADDRESS");
	for (i = 0; list && i < json_object_array_length(list); i++)
		print_upstream(json_object_array_get_idx(list, i));
}

/* Logs one line: why the relay could not be asked, and what to do. Returns r. */
static int cannot_ask(const char *address, int r)
{
	if (r == -EINVAL)
		log_err("--admin: '%s' is neither the path of a UNIX socket nor ADDR:PORT",
			address);
	else if (r == -ENOENT || r == -ECONNREFUSED)
		log_err("no relay answers at '%s': start tproxy-relay with --admin=%s, or name its address with --admin",
			address, address);
	else if (r == -EACCES)
		log_err("may not connect to '%s': run this as root or as the relay's user",
			address);
	else if (r == -EPROTO)
		log_err("what answers at '%s' is not tproxy-relay", address);
	else if (r == -EPROTONOSUPPORT)
		log_err("the relay at '%s' answers with another version of the document: use its version of tproxyctl",
			address);
	else
		log_err("cannot ask the relay at '%s': %s", address, strerror(-r));
	return r;
}

int ctl_upstreams(int argc, char **argv)
{
	_cleanup_(json_put) struct json_object *root = NULL;
	_cleanup_free_ char *body = NULL;
	struct ctl_options options;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	r = admin_client_get(options.admin, UPSTREAMS_ANSWER_DOCUMENT, &body);
	if (r == 0)
		r = upstreams_answer_parse(body, &root);
	if (r < 0)
		return cannot_ask(options.admin, r) == -EINVAL ? 2 : EXIT_FAILURE;
	if (options.json)
		json_print(root);
	else
		print(root);
	return EXIT_SUCCESS;
}
