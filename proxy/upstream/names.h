/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The lines of the section [names]: what happens to a connection whose destination has a name.
 *
 *   intranet.example.com = direct         this name
 *   *.example.org = via corp              each name that ends with .example.org, not example.org
 *   * = refuse EACCES                     each name
 *
 * The first line that matches decides. If its decision cannot be carried out (name_policy.h), the
 * next line that matches does.
 *
 * A list is complete when it is shared, and is only read from then on: any thread may use it.
 */
#ifndef TPROXY_NAMES_H
#define TPROXY_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct names;

enum names_action {
	NAMES_NONE, /* no line matches */
	NAMES_VIA,
	NAMES_DIRECT,
	NAMES_REFUSE,
};

/* What a line says. */
struct names_match {
	enum names_action action;
	const char *via;   /* NAMES_VIA: the upstream's name; lives as long as the list */
	uint32_t upstream; /* NAMES_VIA: the upstream's id */
	int error;	   /* NAMES_REFUSE: the client's errno */
	bool any;	   /* the pattern is * */
	unsigned int line; /* in the file */
	size_t next;	   /* the index to go on with */
};

#define NAMES_ERROR_LEN 512

/*
 * Adds a line of the file, number line, to *names, which is created if it is NULL. Returns 0,
 * -ENOMEM, or -EINVAL with a message in error that quotes what is wrong. A line is wrong too if an
 * earlier one with another action always decides about all its names.
 */
int names_parse_line(struct names **names, unsigned int line, const char *pattern,
		     const char *action, char error[NAMES_ERROR_LEN]);

struct names *names_ref(struct names *names);
/* NULL is ignored. */
void names_unref(struct names *names);

/* Returns the number of lines; 0 for NULL. */
size_t names_count(const struct names *names);
/* Describes line i of names_count(). */
void names_get(const struct names *names, size_t i, struct names_match *ret);

/*
 * Finds the first line that matches the name, of those with the index from or a higher one. name is
 * as host_name_copy() writes it. names may be NULL. Takes time for the length of the name, and none
 * for the number of lines.
 */
void names_find(const struct names *names, const char *name, size_t from, struct names_match *ret);

#endif
