// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See json.h. */
#include "json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cgroup.h"
#include "escape.h"
#include "tproxy_abi.h"
#include "util.h"

#define JSON_FLAGS (JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE)

struct json_object *fields_new_document(void)
{
	struct json_object *root = json_object_new_object();

	fields_add_number(root, "version", FIELDS_JSON_VERSION);
	return root;
}

void fields_add_string(struct json_object *to, const char *key, const char *value)
{
	size_t size = ESCAPE_LEN(strlen(value));
	_cleanup_free_ char *text = malloc(size);

	json_object_object_add(
		to, key,
		json_object_new_string(text ? escape_text(value, strlen(value), text, size)
					    : "(out of memory)"));
}

void fields_add_number(struct json_object *to, const char *key, uint64_t value)
{
	json_object_object_add(to, key, json_object_new_uint64(value));
}

void fields_add_bool(struct json_object *to, const char *key, bool value)
{
	json_object_object_add(to, key, json_object_new_boolean(value));
}

const char *fields_get_string(struct json_object *from, const char *key)
{
	return json_object_get_string(json_object_object_get(from, key));
}

uint64_t fields_get_number(struct json_object *from, const char *key)
{
	return json_object_get_uint64(json_object_object_get(from, key));
}

bool fields_get_bool(struct json_object *from, const char *key)
{
	return json_object_get_boolean(json_object_object_get(from, key));
}

void fields_print(struct json_object *object)
{
	printf("%s\n", json_object_to_json_string_ext(object, JSON_FLAGS));
}

void fields_put(struct json_object **object)
{
	json_object_put(*object);
}

static bool is_mapped4(const struct tproxy_endpoint *ep)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(ep->addr, mapped, sizeof(mapped)) == 0;
}

char *fields_format_address(const struct tproxy_endpoint *ep, char buf[FIELDS_ADDRESS_LEN])
{
	if (is_mapped4(ep))
		inet_ntop(AF_INET, ep->addr + 12, buf, FIELDS_ADDRESS_LEN);
	else
		inet_ntop(AF_INET6, ep->addr, buf, FIELDS_ADDRESS_LEN);
	return buf;
}

char *fields_format_endpoint(const struct tproxy_endpoint *ep, char buf[FIELDS_ENDPOINT_LEN])
{
	char ip[FIELDS_ADDRESS_LEN];

	if (ep->port)
		snprintf(buf, FIELDS_ENDPOINT_LEN, is_mapped4(ep) ? "%s:%u" : "[%s]:%u",
			 fields_format_address(ep, ip), ep->port);
	else
		snprintf(buf, FIELDS_ENDPOINT_LEN, "-");
	return buf;
}

void fields_add_endpoint(struct json_object *to, const char *key, const struct tproxy_endpoint *ep)
{
	char text[FIELDS_ENDPOINT_LEN];

	if (ep->port)
		fields_add_string(to, key, fields_format_endpoint(ep, text));
}

void fields_add_listen(struct json_object *to, const char *key, const struct tproxy_listen *listen)
{
	struct json_object *array = json_object_new_array();
	char text[FIELDS_ENDPOINT_LEN];
	struct tproxy_endpoint ep = {};
	int i;

	memcpy(ep.addr, listen->addr, sizeof(ep.addr));
	for (i = 0; i < listen->n_ports && i < TPROXY_PORTS_MAX; i++) {
		ep.port = listen->ports[i];
		fields_format_endpoint(&ep, text);
		json_object_array_add(array, json_object_new_string(text));
	}
	if (i > 0)
		json_object_object_add(to, key, array);
	else
		json_object_put(array);
}

char *fields_cgroup(uint64_t id)
{
	_cleanup_free_ char *path = NULL;
	char *text = NULL;
	size_t size;
	int r;

	r = cgroup_path_by_id(id, &path);
	if (r < 0) {
		if (asprintf(&text, "(id %" PRIu64 ", %s)", id,
			     r == -ESTALE ? "removed" : strerror(-r)) < 0)
			return NULL;
		return text;
	}
	size = ESCAPE_LEN(strlen(path));
	text = malloc(size);
	return text ? escape_text(path, strlen(path), text, size) : NULL;
}

char *fields_user(uint64_t uid)
{
	const struct passwd *user = getpwuid((uid_t)uid);
	char text[ESCAPE_LEN(LOGIN_NAME_MAX)];

	if (user)
		return strdup(escape_text(user->pw_name, LOGIN_NAME_MAX, text, sizeof(text)));
	snprintf(text, sizeof(text), "%" PRIu64, uid);
	return strdup(text);
}

char *fields_group(uint64_t gid)
{
	const struct group *group = getgrgid((gid_t)gid);
	char text[ESCAPE_LEN(LOGIN_NAME_MAX)];

	if (group)
		return strdup(escape_text(group->gr_name, LOGIN_NAME_MAX, text, sizeof(text)));
	snprintf(text, sizeof(text), "%" PRIu64, gid);
	return strdup(text);
}

void fields_add_cgroup(struct json_object *to, const char *key, uint64_t id)
{
	_cleanup_free_ char *text = fields_cgroup(id);

	fields_add_string(to, key, text ? text : "(out of memory)");
}
