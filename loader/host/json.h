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
#define FIELDS_JSON_VERSION 1

/*
 * Returns a new document, whose first member is "version". The caller frees it with fields_put().
 */
struct json_object *fields_new_document(void);

/*
 * Add a member. Bytes of a string that are not printable ASCII are escaped, see escape.h: paths may
 * contain any byte.
 */
void fields_add_string(struct json_object *to, const char *key, const char *value);
void fields_add_number(struct json_object *to, const char *key, uint64_t value);
void fields_add_bool(struct json_object *to, const char *key, bool value);

/* Adds "a.b.c.d:port" or "[v6]:port", or nothing if the port is 0, which means no endpoint. */
void fields_add_endpoint(struct json_object *to, const char *key, const struct tproxy_endpoint *ep);

/* Adds an array of such strings, or nothing if there are no ports. */
void fields_add_listen(struct json_object *to, const char *key, const struct tproxy_listen *listen);

/*
 * Adds the cgroup's path, or "(id N, removed)" or "(id N, ERROR)" if there is none or it cannot be
 * found, which takes CAP_DAC_READ_SEARCH.
 */
void fields_add_cgroup(struct json_object *to, const char *key, uint64_t id);

/* Return NULL, 0 or false if there is no such member. */
const char *fields_get_string(struct json_object *from, const char *key);
uint64_t fields_get_number(struct json_object *from, const char *key);
bool fields_get_bool(struct json_object *from, const char *key);

/* Prints the object as JSON to stdout. */
void fields_print(struct json_object *object);

/* Frees the object (drops a reference), for use with _cleanup_(). */
void fields_put(struct json_object **object);

/* Writes the address alone, an IPv4-mapped address as IPv4. Returns @buf. */
#define FIELDS_ADDRESS_LEN 46
char *fields_format_address(const struct tproxy_endpoint *ep, char buf[FIELDS_ADDRESS_LEN]);
/* Writes address and port as in fields_add_endpoint(), "-" for port 0. Returns @buf. */
#define FIELDS_ENDPOINT_LEN (FIELDS_ADDRESS_LEN + 8)
char *fields_format_endpoint(const struct tproxy_endpoint *ep, char buf[FIELDS_ENDPOINT_LEN]);

/* Returns the text of fields_add_cgroup(), which the caller frees, or NULL without memory. */
char *fields_cgroup(uint64_t id);

/*
 * Returns the name of a user, or the number if there is no name. The caller frees it; NULL: no
 * memory.
 */
char *fields_user(uint64_t uid);

/* Returns the name of a group in the same way, such as "root" for 0. */
char *fields_group(uint64_t gid);

#endif
