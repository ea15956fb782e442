/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A line of the connection log for programs: one JSON object, written member by member. It takes no
 * memory from the heap and no library, because a busy host logs ten thousand connections a second.
 * Also parts of the line for people.
 */
#ifndef TPROXY_LINE_H
#define TPROXY_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "parse.h"
#include "tproxy_abi.h"

/* The longest line has some 1,000 bytes. */
struct line {
	size_t len;
	bool too_long; /* something did not fit */
	char text[2048];
};

void line_begin(struct line *line);
/* Keys are written as they are, values escaped. value may be NULL. */
void line_add_string(struct line *line, const char *key, const char *value);
void line_add_number(struct line *line, const char *key, uint64_t value);
void line_add_true(struct line *line, const char *key);
/* Adds a time of CLOCK_REALTIME as in RFC 3339. */
void line_add_time(struct line *line, const struct timespec *time);
/* Adds the id of the connection, as text: a number of JSON has 53 bits only. */
void line_add_id(struct line *line, uint64_t cookie);
/* Adds the errno and its name. */
void line_add_error(struct line *line, int error);
/* Ends the object and the line. Returns false if it did not fit. */
bool line_end(struct line *line);

/* Copies the name of a command, with a '?' for each byte that is not printable ASCII. */
void line_command(const char comm[TPROXY_COMM_LEN], char ret_command[TPROXY_COMM_LEN + 1]);

/* Formats an endpoint of the kernel half. Returns buf. */
char *line_endpoint(const struct tproxy_endpoint *endpoint, char buf[FORMAT_ENDPOINT_LEN]);

#endif
