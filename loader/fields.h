/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fields of JSON objects. What is printed as text is read back from the object that --json prints,
 * so that the two cannot tell different things.
 */
#ifndef TPROXY_LOADER_FIELDS_H
#define TPROXY_LOADER_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

struct json_object;
struct tproxy_endpoint;
struct tproxy_listen;

/* Of every JSON document of these programs; raised when a member changes its meaning or goes. */
#define FIELDS_JSON_VERSION 1

/* An object to be printed as a document of its own: "version" is its first member. */
struct json_object *fields_new_document(void);

/* Bytes that are not printable ASCII are escaped, see escape.h: paths may hold any byte. */
void fields_add_string(struct json_object *to, const char *key, const char *value);
void fields_add_number(struct json_object *to, const char *key, uint64_t value);
void fields_add_bool(struct json_object *to, const char *key, bool value);

/* "a.b.c.d:port" or "[v6]:port"; port 0 = there is none: no field. */
void fields_add_endpoint(struct json_object *to, const char *key, const struct tproxy_endpoint *ep);

/* An array of such; no ports: no field. */
void fields_add_listen(struct json_object *to, const char *key, const struct tproxy_listen *listen);

/* Its path; what there is instead, if it was removed or we may not ask (CAP_DAC_READ_SEARCH). */
void fields_add_cgroup(struct json_object *to, const char *key, uint64_t id);

/* NULL, 0 and false if there is no such field. */
const char *fields_get_string(struct json_object *from, const char *key);
uint64_t fields_get_number(struct json_object *from, const char *key);
bool fields_get_bool(struct json_object *from, const char *key);

/* The object as JSON, to stdout. */
void fields_print(struct json_object *object);

/* For _cleanup_(). */
void fields_put(struct json_object **object);

/* The address alone; a mapped IPv4 address as IPv4. */
#define FIELDS_ADDRESS_LEN 46
char *fields_format_address(const struct tproxy_endpoint *ep, char buf[FIELDS_ADDRESS_LEN]);
/* Address and port as in fields_add_endpoint(), "-" for port 0. */
#define FIELDS_ENDPOINT_LEN (FIELDS_ADDRESS_LEN + 8)
char *fields_format_endpoint(const struct tproxy_endpoint *ep, char buf[FIELDS_ENDPOINT_LEN]);

/* As fields_add_cgroup() shows it. The caller frees it; NULL: out of memory. */
char *fields_cgroup(uint64_t id);

/* The name of a user, the number if there is none. Likewise. */
char *fields_user(uint64_t uid);

/* Likewise of a group; "root". */
char *fields_group(uint64_t gid);

#endif
