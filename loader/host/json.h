/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Members of JSON objects. Text output is read back from the object that --json prints, so that the
 * two always agree.
 */
#ifndef TPROXY_HOST_JSON_H
#define TPROXY_HOST_JSON_H

#include <stdbool.h>
#include <stdint.h>

struct json_object;
struct tproxy_endpoint;
struct tproxy_listen;

/*
 * Version of every JSON document of these programs. Raised when a member is removed or changes its
 * meaning.
 */
#define JSON_DOCUMENT_VERSION 1

/*
 * Returns a new document, whose first member is "version". The caller frees it with json_put().
 */
struct json_object *json_new_document(void);

/*
 * Add a member. Bytes of a string that are not printable ASCII are escaped, see escape.h: paths may
 * contain any byte.
 */
void json_add_string(struct json_object *to, const char *key, const char *value);
void json_add_number(struct json_object *to, const char *key, uint64_t value);
void json_add_bool(struct json_object *to, const char *key, bool value);

/* Adds {"address": "...", "port": N}, or null if ep is NULL. */
void json_add_address(struct json_object *to, const char *key, const struct tproxy_endpoint *ep);

/* Adds "a.b.c.d:port" or "[v6]:port". A caller that may have no endpoint tests for that. */
void json_add_endpoint(struct json_object *to, const char *key, const struct tproxy_endpoint *ep);

/* Adds an array of such strings, or nothing if there are no ports. */
void json_add_listen(struct json_object *to, const char *key, const struct tproxy_listen *listen);

/* Adds the name of a cgroup, see names_cgroup(). */
void json_add_cgroup(struct json_object *to, const char *key, uint64_t id);

/* Return NULL, 0 or false if there is no such member. */
const char *json_get_string(struct json_object *from, const char *key);
uint64_t json_get_number(struct json_object *from, const char *key);
bool json_get_bool(struct json_object *from, const char *key);

/* Prints the object as JSON to stdout. */
void json_print(struct json_object *object);

/* Frees the object (drops a reference), for use with _cleanup_(). */
void json_put(struct json_object **object);

#endif
