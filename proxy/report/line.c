// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See line.h. */
#include "line.h"

#include <stdio.h>
#include <string.h>

#include "conn_row.h"

void line_begin(struct line *line)
{
	line->len = 0;
	line->too_long = false;
	line->text[line->len++] = '{';
}

static void add(struct line *line, const char *text, size_t len)
{
	if (len > sizeof(line->text) - line->len) {
		line->too_long = true;
		return;
	}
	memcpy(line->text + line->len, text, len);
	line->len += len;
}

static void add_key(struct line *line, const char *key)
{
	if (line->len > 1)
		add(line, ",", 1);
	add(line, "\"", 1);
	add(line, key, strlen(key));
	add(line, "\":", 2);
}

static void add_escaped(struct line *line, const char *value)
{
	char code[8];
	size_t plain;

	for (;;) {
		for (plain = 0; (unsigned char)value[plain] >= ' '; plain++) {
			if (value[plain] == '"' || value[plain] == '\\')
				break;
		}
		add(line, value, plain);
		value += plain;
		if (!*value)
			return;
		if ((unsigned char)*value < ' ') {
			snprintf(code, sizeof(code), "\\u%04x", (unsigned char)*value);
		} else {
			code[0] = '\\';
			code[1] = *value;
			code[2] = '\0';
		}
		add(line, code, strlen(code));
		value++;
	}
}

void line_add_string(struct line *line, const char *key, const char *value)
{
	add_key(line, key);
	if (!value) {
		add(line, "null", 4);
		return;
	}
	add(line, "\"", 1);
	add_escaped(line, value);
	add(line, "\"", 1);
}

void line_add_number(struct line *line, const char *key, uint64_t value)
{
	char digits[20];
	size_t n = sizeof(digits);

	do {
		digits[--n] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	add_key(line, key);
	add(line, digits + n, sizeof(digits) - n);
}

void line_add_true(struct line *line, const char *key)
{
	add_key(line, key);
	add(line, "true", 4);
}

/* Returns the date and the time, or NULL. Many lines have the same second. */
static const char *format_second(time_t second)
{
	static _Thread_local char text[32];
	static _Thread_local time_t formatted;
	struct tm utc;

	if (text[0] && second == formatted)
		return text;
	text[0] = '\0';
	if (!gmtime_r(&second, &utc) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc))
		return NULL;
	formatted = second;
	return text;
}

void line_add_id(struct line *line, uint64_t cookie)
{
	char id[CONN_ROW_ID_LEN];

	line_add_string(line, "id", conn_row_id(cookie, id));
}

void line_add_time(struct line *line, const struct timespec *time)
{
	const char *second = format_second(time->tv_sec);
	char text[64];

	if (!second)
		return;
	snprintf(text, sizeof(text), "%s.%03dZ", second, (int)(time->tv_nsec / 1000000));
	line_add_string(line, "time", text);
}

void line_add_error(struct line *line, int error)
{
	line_add_number(line, "errno", (uint64_t)error);
	line_add_string(line, "error", strerrorname_np(error));
}

bool line_end(struct line *line)
{
	add(line, "}\n", 2);
	return !line->too_long;
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
	struct in6_addr a6;

	/* An endpoint is aligned less than struct in6_addr. */
	memcpy(&a6, endpoint->addr, sizeof(a6));
	addr.in.sin_port = htons(endpoint->port);
	if (IN6_IS_ADDR_V4MAPPED(&a6)) {
		addr.sa.sa_family = AF_INET;
		memcpy(&addr.in.sin_addr, &endpoint->addr[12], sizeof(addr.in.sin_addr));
	} else {
		addr.sa.sa_family = AF_INET6;
		addr.in6.sin6_addr = a6;
	}
	return format_endpoint(&addr, buf);
}
