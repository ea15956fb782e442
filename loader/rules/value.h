/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The values in a rule file: elements of the lists that conditions have, names, errnos. */
#ifndef TPROXY_RULES_VALUE_H
#define TPROXY_RULES_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parsed.h"

struct token;

/* What was expected instead of a value; "expected " precedes it. */
#define VALUE_EXPECTED_LEN 256

#define VALUE_DESTINATION "an address, a CIDR, a range of addresses or a host name"

/*
 * Reads an element of a condition's list and appends it. Returns 0, -ENOMEM, or -EINVAL with the
 * text in expected.
 */
int value_read(enum parsed_condition condition, const struct token *token, struct parsed_list *list,
	       char expected[VALUE_EXPECTED_LEN]);

/* Returns true if the word is written as errnos are: EACCES, say. */
bool value_is_errno(const struct token *token);
/* Returns 0 if a rule cannot refuse with this error. */
uint16_t value_errno(const struct token *token);

/* Returns true if a rule or a set may have this name, which with its NUL fits into @size bytes. */
bool value_is_name(const char *name, size_t len, size_t size);

#endif
