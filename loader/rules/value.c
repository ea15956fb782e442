// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Reads the values of a rule file, see value.h. No name is looked up here. Text that cannot be an
 * address is a host name; text that is no number is a user or group.
 */
#include "value.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errno_name.h"
#include "parse.h"
#include "token.h"
#include "util.h"

#define HOST_NAME_MAX_LEN 253 /* RFC 1035 */
#define USER_NAME_MAX_LEN 255
/* -1 is no id: setresuid(2) and chown(2) leave the id as it is. */
#define ID_MAX (UINT32_MAX - 1)

static bool is_name_char(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

bool value_is_name(const char *name, size_t len, size_t size)
{
	size_t i;

	for (i = 0; i < len && is_name_char(name[i]); i++)
		;
	return len > 0 && i == len && len < size;
}

bool value_is_errno(const struct token *token)
{
	size_t i;

	for (i = 0; i < token->len && isupper((unsigned char)token->text[i]); i++)
		;
	return token->type == TOKEN_WORD && i == token->len && i > 1 && token->text[0] == 'E';
}

uint16_t value_errno(const struct token *token)
{
	char name[sizeof("EADDRNOTAVAIL")];

	if (token->len >= sizeof(name))
		return 0;
	memcpy(name, token->text, token->len);
	name[token->len] = '\0';
	return (uint16_t)errno_from_name(name);
}

/* Writes what was expected. Its value is -EINVAL. */
#define expect(expected, ...) (snprintf(expected, VALUE_EXPECTED_LEN, __VA_ARGS__), -EINVAL)

/* Appends an item with a copy of the text, or without one. Returns 0 or -ENOMEM. */
static int add_item(struct parsed_list *list, const struct token *token, enum parsed_type type,
		    const char *text, size_t len)
{
	struct parsed_item *item = parsed_add_item(list);

	if (!item)
		return -ENOMEM;
	item->type = type;
	item->at = token->at;
	item->word = text ? strndup(text, len) : NULL;
	return text && !item->word ? -ENOMEM : 0;
}

static int add_numbers(struct parsed_list *list, const struct token *token, uint32_t first,
		       uint32_t last)
{
	struct parsed_item *item;
	int r = add_item(list, token, PARSED_NUMBERS, NULL, 0);

	if (r < 0)
		return r;
	item = &list->items[list->n_items - 1];
	item->number_first = first;
	item->number_last = last;
	return 0;
}

/*
 * Reads a number or a range "a-b" within [min, max]. Returns 0, -EINVAL for other text, or -ERANGE.
 */
static int parse_numbers(const struct token *token, uint32_t min, uint32_t max, uint32_t *ret_first,
			 uint32_t *ret_last)
{
	/* Two numbers of ten digits. */
	char text[24], *hyphen;
	int r, r_last;

	if (token->len >= sizeof(text))
		return -EINVAL;
	memcpy(text, token->text, token->len);
	text[token->len] = '\0';
	hyphen = strchr(text, '-');
	if (hyphen)
		*hyphen++ = '\0';
	r = parse_u32(text, min, max, ret_first);
	r_last = parse_u32(hyphen ? hyphen : text, min, max, ret_last);
	if (r < 0 || r_last < 0)
		return r == -EINVAL || r_last == -EINVAL ? -EINVAL : -ERANGE;
	return *ret_first <= *ret_last ? 0 : -ERANGE;
}

static int read_port(const struct token *token, struct parsed_list *list, char *expected)
{
	uint32_t first, last;

	if (parse_numbers(token, 1, UINT16_MAX, &first, &last) < 0)
		return expect(expected, "a port from 1 to 65535, or a range such as 8000-8100");
	return add_numbers(list, token, first, last);
}

static int read_id(const struct token *token, struct parsed_list *list, enum parsed_type type,
		   char *expected)
{
	const char *what = type == PARSED_USER ? "user" : "group";
	uint32_t first, last;
	const int r = parse_numbers(token, 0, ID_MAX, &first, &last);

	if (r == 0)
		return add_numbers(list, token, first, last);
	if (r == -ERANGE)
		return expect(expected, "a %s id from 0 to %u, or a range such as 1000-1999", what,
			      ID_MAX);
	if (isdigit((unsigned char)token->text[0]) || token->len > USER_NAME_MAX_LEN)
		return expect(expected, "a number, a range or the name of a %s", what);
	return add_item(list, token, type, token->text, token->len);
}

static int read_command(const struct token *token, struct parsed_list *list, char *expected)
{
	if (token->type == TOKEN_WORD && memchr(token->text, '*', token->len))
		return expect(expected,
			      "a name without '*', which is no pattern here (in quotes it "
			      "stands for itself)");
	return add_item(list, token, PARSED_COMMAND, token->text, token->len);
}

static int read_cgroup(const struct token *token, struct parsed_list *list, char *expected)
{
	static const char by_name[] = "name:";
	const size_t prefix = sizeof(by_name) - 1;
	const char *pattern = token->text + prefix, *star;
	size_t len, before;

	if (token->len < prefix || memcmp(token->text, by_name, prefix) != 0)
		return add_item(list, token, PARSED_CGROUP_PATH, token->text, token->len);
	len = token->len - prefix;
	star = memchr(pattern, '*', len);
	if (len == 0 || memchr(pattern, '/', len))
		return expect(expected, "the name of a cgroup, without '/', after \"name:\"");
	if (star && memchr(star + 1, '*', (size_t)(pattern + len - star - 1)))
		return expect(expected, "a name with at most one '*'");
	before = star ? (size_t)(star - pattern) : len;
	if (before > TPROXY_CGROUP_PATTERN_LEN ||
	    (star && len - before - 1 > TPROXY_CGROUP_PATTERN_LEN))
		return expect(expected, "at most %d bytes before and after the '*'",
			      TPROXY_CGROUP_PATTERN_LEN);
	return add_item(list, token, PARSED_CGROUP_NAME, pattern, len);
}

/* Returns true if the text is meant as an address: it cannot be a name. */
static bool is_like_address(const struct token *token)
{
	size_t i;

	if (memchr(token->text, ':', token->len) || memchr(token->text, '/', token->len))
		return true;
	for (i = 0; i < token->len; i++) {
		if (!isdigit((unsigned char)token->text[i]) && token->text[i] != '.' &&
		    token->text[i] != '-')
			return false;
	}
	return true;
}

/*
 * Returns true if the last label of a name is a number, decimal or hexadecimal. There is no such
 * top level domain, and getaddrinfo() takes 0x7f.1 for 127.0.0.1.
 */
static bool ends_in_number(const char *name, size_t len)
{
	size_t begin, i;
	bool hex;

	len -= len > 0 && name[len - 1] == '.';
	for (begin = len; begin > 0 && name[begin - 1] != '.'; begin--)
		;
	hex = len - begin >= 2 && name[begin] == '0' && tolower(name[begin + 1]) == 'x';
	for (i = hex ? begin + 2 : begin;
	     i < len && (hex ? isxdigit((unsigned char)name[i]) : isdigit((unsigned char)name[i]));
	     i++)
		;
	return i == len;
}

static int read_host(const struct token *token, struct parsed_list *list, char *expected)
{
	if (is_like_address(token))
		return expect(expected, VALUE_DESTINATION "%s",
			      memchr(token->text, ':', token->len)
				      ? " (a port is a condition of its own: port 443)"
				      : "");
	if (!is_name_char(token->text[0]) || token->text[0] == '-' || token->text[0] == '.' ||
	    !value_is_name(token->text, token->len, HOST_NAME_MAX_LEN + 1) ||
	    ends_in_number(token->text, token->len) || token_is(token, "any"))
		return expect(expected, VALUE_DESTINATION);
	return add_item(list, token, PARSED_HOST, token->text, token->len);
}

/* Explains the bits beyond the length of a CIDR by the CIDR without them. */
static int expect_masked(const struct token *token, char *expected)
{
	struct prefixes prefixes = {};
	char meant[128];
	size_t used;

	/* The default, in case memory is short. */
	snprintf(meant, sizeof(meant), "a CIDR without bits beyond its length");
	if (prefixes_parse(&prefixes, token->text, token->len, true) == PREFIX_MASKED &&
	    prefixes.n == 1) {
		used = (size_t)snprintf(meant, sizeof(meant), "the CIDR ");
		prefix_format(&prefixes.list[0], meant + used, sizeof(meant) - used);
	}
	prefixes_finish(&prefixes);
	return expect(expected, "%s, or an address", meant);
}

static int read_destination(const struct token *token, struct parsed_list *list, char *expected)
{
	if (token->text[0] == '@' && token->type == TOKEN_WORD) {
		if (!value_is_name(token->text + 1, token->len - 1, PARSED_SET_NAME_LEN))
			return expect(expected, "@ and the name of a set");
		return add_item(list, token, PARSED_SET, token->text + 1, token->len - 1);
	}
	switch (prefixes_parse(&list->prefixes, token->text, token->len, false)) {
	case PREFIX_OK:
		return 0;
	case PREFIX_NO_MEMORY:
		return -ENOMEM;
	case PREFIX_NO_LENGTH:
		return expect(expected, "a prefix length up to %d after the '/'",
			      memchr(token->text, ':', token->len) ? 128 : 32);
	case PREFIX_BACKWARDS:
		return expect(expected, "a range from a lower to a higher address of one family");
	case PREFIX_HOST_BITS:
		return expect_masked(token, expected);
	default:
		return read_host(token, list, expected);
	}
}

int value_read(enum parsed_condition condition, const struct token *token, struct parsed_list *list,
	       char expected[VALUE_EXPECTED_LEN])
{
	if (token->len == 0)
		return expect(expected, "a value");
	switch (condition) {
	case PARSED_TO:
		return read_destination(token, list, expected);
	case PARSED_PORT:
		return read_port(token, list, expected);
	case PARSED_UID:
		return read_id(token, list, PARSED_USER, expected);
	case PARSED_GID:
		return read_id(token, list, PARSED_GROUP, expected);
	case PARSED_COMM:
		return read_command(token, list, expected);
	default:
		return read_cgroup(token, list, expected);
	}
}
