/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sums that tproxyctl watch prints at its end, by destination and by program. A table has a
 * limited number of lines; further keys share one line.
 */
#ifndef TPROXY_CTL_WATCH_TOTALS_H
#define TPROXY_CTL_WATCH_TOTALS_H

#include <stddef.h>
#include <stdint.h>

struct json_object;

#define WATCH_TOTAL_KEY_LEN 80

struct watch_total {
	char key[WATCH_TOTAL_KEY_LEN]; /* "": free */
	uint64_t connections, failed, bytes_up, bytes_down;
};

/* Zeroed, it is empty. */
struct watch_totals {
	struct watch_total *slots;
	size_t n, size;
	struct watch_total others; /* of the keys that have no line */
};

/* Returns the line of a key, which is never NULL and valid until the next call. */
struct watch_total *watch_totals_at(struct watch_totals *totals, const char *key);
void watch_totals_finish(struct watch_totals *totals);

/* Prints a table with most bytes first, then most connections; at most @most lines. */
void watch_totals_print(const struct watch_totals *totals, const char *title, size_t most);
/* Adds an array of objects, whose member @key_name is the key, in the same order. */
void watch_totals_add_json(const struct watch_totals *totals, struct json_object *to,
			   const char *member, const char *key_name);

#endif
