// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See line.h. */
#include "line.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "conn_row.h"

void line_add_string(struct json_object *to, const char *key, const char *value)
{
	json_object_object_add(to, key, value ? json_object_new_string(value) : NULL);
}

void line_add_number(struct json_object *to, const char *key, uint64_t value)
{
	json_object_object_add(to, key, json_object_new_uint64(value));
}

void line_add_time(struct json_object *to, const struct timespec *time)
{
	char text[64], seconds[32];
	struct tm utc;

	if (!gmtime_r(&time->tv_sec, &utc) ||
	    !strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &utc))
		return;
	snprintf(text, sizeof(text), "%s.%03dZ", seconds, (int)(time->tv_nsec / 1000000));
	line_add_string(to, "time", text);
}

void line_add_id(struct json_object *to, uint64_t cookie)
{
	char id[CONN_ROW_ID_LEN];

	line_add_string(to, "id", conn_row_id(cookie, id));
}

void line_add_error(struct json_object *to, int error)
{
	line_add_number(to, "errno", (uint64_t)error);
	line_add_string(to, "error", strerrorname_np(error));
}

void line_command(const char comm[TPROXY_COMM_LEN], char ret_command[TPROXY_COMM_LEN + 1])
{
	size_t i;

	for (i = 0; i < TPROXY_COMM_LEN && comm[i]; i++)
		ret_command[i] = comm[i] >= ' ' && comm[i] <= '~' ? comm[i] : '?';
	ret_command[i] = '\0';
}

char *line_endpoint(const struct tproxy_endpoint *endpoint, char buf[FORMAT_ENDPOINT_LEN])
{
	union sockaddr_any addr = {};

	addr.in.sin_port = htons(endpoint->port);
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)endpoint->addr)) {
		addr.sa.sa_family = AF_INET;
		memcpy(&addr.in.sin_addr, &endpoint->addr[12], sizeof(addr.in.sin_addr));
	} else {
		addr.sa.sa_family = AF_INET6;
		memcpy(&addr.in6.sin6_addr, endpoint->addr, sizeof(addr.in6.sin6_addr));
	}
	return format_endpoint(&addr, buf);
}
