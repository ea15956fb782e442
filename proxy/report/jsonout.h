/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Writes JSON to a stream, member by member. Text may hold any bytes: what is not printable ASCII
 * is shown as \xNN (escape.h), and <, > and & are written as \u00NN, so that the text is harmless
 * in HTML too. In an array key is NULL. line.h is the writer for the connection log: one flat
 * object in a buffer of fixed size, which must be fast.
 */
#ifndef TPROXY_JSONOUT_H
#define TPROXY_JSONOUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 8

struct jsonout {
	FILE *out;
	unsigned int depth;
	bool has_members[JSON_DEPTH_MAX];
	char end[JSON_DEPTH_MAX]; /* of each level: '}' or ']' */
};

/* Begins the document, an object. jsonout_end() ends it, and each object and array in it. */
void jsonout_begin(struct jsonout *json, FILE *out);
void jsonout_object(struct jsonout *json, const char *key);
void jsonout_array(struct jsonout *json, const char *key);
void jsonout_end(struct jsonout *json);

/* text may be NULL. */
void jsonout_text(struct jsonout *json, const char *key, const char *text);
void jsonout_number(struct jsonout *json, const char *key, uint64_t value);
void jsonout_bool(struct jsonout *json, const char *key, bool value);

#endif
