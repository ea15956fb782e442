/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Parts of the lines of the connection log: members of the JSON object, names of commands. */
#ifndef TPROXY_LINE_H
#define TPROXY_LINE_H

#include <stdint.h>
#include <time.h>

#include "parse.h"
#include "tproxy_abi.h"

struct json_object;

/* value may be NULL. */
void line_add_string(struct json_object *to, const char *key, const char *value);
void line_add_number(struct json_object *to, const char *key, uint64_t value);
/* Adds a time of CLOCK_REALTIME as in RFC 3339. */
void line_add_time(struct json_object *to, const struct timespec *time);
/* Adds the id of the connection, as text: a number of JSON has 53 bits only. */
void line_add_id(struct json_object *to, uint64_t cookie);
/* Adds the errno and its name. */
void line_add_error(struct json_object *to, int error);

/* Copies the name of a command, with a '?' for each byte that is not printable ASCII. */
void line_command(const char comm[TPROXY_COMM_LEN], char ret_command[TPROXY_COMM_LEN + 1]);

/* Formats an endpoint of the kernel half. Returns buf. */
char *line_endpoint(const struct tproxy_endpoint *endpoint, char buf[FORMAT_ENDPOINT_LEN]);

#endif
