// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See upstreams_answer.h. The document is parsed, copied with all of its text escaped, and the copy
 * is checked. The depth of the copy is limited by that of the parser (JSON_TOKENER_DEFAULT_DEPTH).
 */
#include "upstreams_answer.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "escape.h"
#include "json.h"
#include "util.h"

/* A member that tproxyctl reads. */
struct member {
	const char *name;
	enum json_type type;
	bool needed;
	bool or_null;
};

static const struct member upstream_members[] = {
	{ .name = "name", .type = json_type_string, .needed = true },
	{ .name = "type", .type = json_type_string, .needed = true },
	{ .name = "default", .type = json_type_boolean },
	{ .name = "address", .type = json_type_string },
	{ .name = "state", .type = json_type_string },
	{ .name = "since_ms", .type = json_type_int },
	{ .name = "retry_in_ms", .type = json_type_int },
	{ .name = "why", .type = json_type_string, .or_null = true },
	{ .name = "error", .type = json_type_string, .or_null = true },
	{ .name = "dials", .type = json_type_int },
	{ .name = "failed", .type = json_type_int },
	{ .name = "dial_us", .type = json_type_int },
	{ .name = "connections", .type = json_type_int },
	{ .name = "bytes_up", .type = json_type_int },
	{ .name = "bytes_down", .type = json_type_int },
	{ .name = "order", .type = json_type_string },
	{ .name = "members", .type = json_type_array },
};

static const struct member member_members[] = {
	{ .name = "name", .type = json_type_string, .needed = true },
	{ .name = "weight", .type = json_type_int },
	{ .name = "down", .type = json_type_boolean },
};

static bool has_members(struct json_object *o, const struct member *list, size_t n)
{
	struct json_object *value;
	size_t i;

	if (!json_object_is_type(o, json_type_object))
		return false;
	for (i = 0; i < n; i++) {
		const struct member *m = &list[i];

		if (!json_object_object_get_ex(o, m->name, &value)) {
			if (m->needed)
				return false;
			continue;
		}
		if (!json_object_is_type(value, m->type) && !(m->or_null && !value))
			return false;
	}
	return true;
}

static bool is_upstream(struct json_object *o)
{
	struct json_object *members;
	size_t i;

	if (!has_members(o, upstream_members, ARRAY_SIZE(upstream_members)))
		return false;
	if (!json_object_object_get_ex(o, "members", &members))
		return true;
	for (i = 0; i < json_object_array_length(members); i++) {
		if (!has_members(json_object_array_get_idx(members, i), member_members,
				 ARRAY_SIZE(member_members)))
			return false;
	}
	return json_get_string(o, "order");
}

static int check(struct json_object *root)
{
	struct json_object *list, *version;
	size_t i;

	if (!json_object_object_get_ex(root, "version", &version) ||
	    !json_object_is_type(version, json_type_int) ||
	    !json_object_object_get_ex(root, "upstreams", &list))
		return -EPROTO;
	if (json_object_get_int64(version) != JSON_DOCUMENT_VERSION)
		return -EPROTONOSUPPORT;
	if (!json_object_is_type(list, json_type_array))
		return -EPROTO;
	for (i = 0; i < json_object_array_length(list); i++) {
		if (!is_upstream(json_object_array_get_idx(list, i)))
			return -EPROTO;
	}
	return 0;
}

static int copy(struct json_object *from, struct json_object **ret_to);

static int copy_object(struct json_object *from, struct json_object *to)
{
	struct json_object *value;

	json_object_object_foreach(from, key, member)
	{
		const size_t size = ESCAPE_LEN(strlen(key));
		_cleanup_free_ char *text = malloc(size);
		int r = text ? copy(member, &value) : -ENOMEM;

		if (r < 0)
			return r;
		escape_text(key, strlen(key), text, size);
		if (json_object_object_add(to, text, value) < 0) {
			json_object_put(value);
			return -ENOMEM;
		}
	}
	return 0;
}

static int copy_array(struct json_object *from, struct json_object *to)
{
	struct json_object *value;
	size_t i;
	int r;

	for (i = 0; i < json_object_array_length(from); i++) {
		r = copy(json_object_array_get_idx(from, i), &value);
		if (r < 0)
			return r;
		if (json_object_array_add(to, value) < 0) {
			json_object_put(value);
			return -ENOMEM;
		}
	}
	return 0;
}

static struct json_object *copy_string(struct json_object *from)
{
	const char *text = json_object_get_string(from);
	const size_t size = ESCAPE_LEN(strlen(text));
	_cleanup_free_ char *escaped = malloc(size);

	return escaped ? json_object_new_string(escape_text(text, strlen(text), escaped, size))
		       : NULL;
}

/* Sets *ret_to to a copy, NULL for null. Returns 0 or -errno. */
static int copy(struct json_object *from, struct json_object **ret_to)
{
	_cleanup_(json_put) struct json_object *to = NULL;
	int r = 0;

	switch (json_object_get_type(from)) {
	case json_type_null:
		*ret_to = NULL;
		return 0;
	case json_type_object:
		to = json_object_new_object();
		r = to ? copy_object(from, to) : -ENOMEM;
		break;
	case json_type_array:
		to = json_object_new_array();
		r = to ? copy_array(from, to) : -ENOMEM;
		break;
	case json_type_string:
		to = copy_string(from);
		break;
	case json_type_double:
		/* The parser takes NaN and Infinity, which JSON has not. */
		if (!isfinite(json_object_get_double(from)))
			return -EPROTO;
		to = json_object_get(from);
		break;
	default:
		to = json_object_get(from);
	}
	if (r < 0)
		return r;
	if (!to)
		return -ENOMEM;
	*ret_to = TAKE_PTR(to);
	return 0;
}

/* Returns the document, which must be the whole body, or NULL. */
static struct json_object *parse(const char *body)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *root;
	size_t len = strlen(body);

	if (!tokener)
		return NULL;
	while (len > 0 && body[len - 1] == '\n')
		len--;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	root = json_tokener_parse_ex(tokener, body, (int)len);
	if (json_tokener_get_error(tokener) != json_tokener_success) {
		json_object_put(root);
		root = NULL;
	}
	json_tokener_free(tokener);
	return root;
}

int upstreams_answer_parse(const char *body, struct json_object **ret_root)
{
	_cleanup_(json_put) struct json_object *parsed = parse(body), *root = NULL;
	int r;

	if (!json_object_is_type(parsed, json_type_object))
		return -EPROTO;
	r = copy(parsed, &root);
	if (r == 0)
		r = check(root);
	if (r < 0)
		return r;
	*ret_root = TAKE_PTR(root);
	return 0;
}
