// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See json.h. */
#include "json.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "escape.h"
#include "log.h"
#include "names.h"
#include "tproxy_abi.h"
#include "util.h"

#define JSON_FLAGS (JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE)

struct json_object *json_new_document(void)
{
	struct json_object *root = json_object_new_object();

	json_add_number(root, "version", JSON_DOCUMENT_VERSION);
	return root;
}

void json_add_string(struct json_object *to, const char *key, const char *value)
{
	size_t size = ESCAPE_LEN(strlen(value));
	_cleanup_free_ char *text = malloc(size);

	json_object_object_add(
		to, key,
		json_object_new_string(text ? escape_text(value, strlen(value), text, size)
					    : "(out of memory)"));
}

void json_add_number(struct json_object *to, const char *key, uint64_t value)
{
	json_object_object_add(to, key, json_object_new_uint64(value));
}

void json_add_bool(struct json_object *to, const char *key, bool value)
{
	json_object_object_add(to, key, json_object_new_boolean(value));
}

const char *json_get_string(struct json_object *from, const char *key)
{
	return json_object_get_string(json_object_object_get(from, key));
}

uint64_t json_get_number(struct json_object *from, const char *key)
{
	return json_object_get_uint64(json_object_object_get(from, key));
}

bool json_get_bool(struct json_object *from, const char *key)
{
	return json_object_get_boolean(json_object_object_get(from, key));
}

void json_print(struct json_object *object)
{
	if (printf("%s\n", json_object_to_json_string_ext(object, JSON_FLAGS)) < 0)
		log_answer_failed();
}

void json_put(struct json_object **object)
{
	json_object_put(*object);
}

void json_add_address(struct json_object *to, const char *key, const struct tproxy_endpoint *ep)
{
	struct json_object *object = ep ? json_object_new_object() : NULL;
	char address[ADDRESS_LEN];

	if (ep) {
		json_add_string(object, "address", address_format(ep, address));
		json_add_number(object, "port", ep->port);
	}
	json_object_object_add(to, key, object);
}

void json_add_endpoint(struct json_object *to, const char *key, const struct tproxy_endpoint *ep)
{
	char text[ADDRESS_ENDPOINT_LEN];

	json_add_string(to, key, address_format_endpoint(ep, text));
}

void json_add_listen(struct json_object *to, const char *key, const struct tproxy_listen *listen)
{
	struct json_object *array = json_object_new_array();
	char text[ADDRESS_ENDPOINT_LEN];
	__u32 i;

	for (i = 0; i < listen->n_ports && i < TPROXY_PORTS_MAX; i++) {
		const struct tproxy_endpoint ep = address_of_listen(listen, i);

		address_format_endpoint(&ep, text);
		json_object_array_add(array, json_object_new_string(text));
	}
	if (i > 0)
		json_object_object_add(to, key, array);
	else
		json_object_put(array);
}

void json_add_cgroup(struct json_object *to, const char *key, uint64_t id)
{
	_cleanup_free_ char *text = names_cgroup(id);

	json_add_string(to, key, text ? text : "(out of memory)");
}
