// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See optparse.h. */
#include "optparse.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

#define fail(error, ...) (snprintf(error, OPTPARSE_ERROR_LEN, __VA_ARGS__), -EINVAL)

void optparse_init(struct optparse *p, int argc, char **argv, const struct optparse_option *options)
{
	*p = (struct optparse){ .argc = argc, .argv = argv, .options = options, .next = 1 };
}

const char *optparse_name(const struct optparse_option *options, int val)
{
	while (options->val != val)
		options++;
	return options->name;
}

/* Appends the option names that start with name: "--a", "--a or --b", "--a, --b or --c". */
static void list_candidates(const struct optparse_option *options, const char *name, size_t len,
			    char text[OPTPARSE_ERROR_LEN])
{
	const struct optparse_option *o, *last = NULL;
	size_t used = strlen(text);
	bool first = true;

	for (o = options; o->name; o++) {
		if (strncmp(o->name, name, len) == 0)
			last = o;
	}
	for (o = options; o->name && used < OPTPARSE_ERROR_LEN; o++) {
		if (strncmp(o->name, name, len) != 0)
			continue;
		used += (size_t)snprintf(text + used, OPTPARSE_ERROR_LEN - used, "%s--%s",
					 first	     ? ""
					 : o == last ? " or "
						     : ", ",
					 o->name);
		first = false;
	}
}

static int refuse_name(const struct optparse *p, const char *name, size_t len,
		       char error[OPTPARSE_ERROR_LEN])
{
	const struct optparse_option *o;

	for (o = p->options; o->name && len > 0; o++) {
		if (strncmp(o->name, name, len) != 0)
			continue;
		snprintf(error, OPTPARSE_ERROR_LEN, "'--%.*s' is incomplete: ", (int)len, name);
		list_candidates(p->options, name, len, error);
		return -EINVAL;
	}
	return fail(error, "unknown option '--%s'", name);
}

/*
 * Takes the next word as the option's value. A word that starts with "--" is refused: the value was
 * most likely forgotten.
 */
static int take_value(struct optparse *p, const char *option, const char **ret_value,
		      char error[OPTPARSE_ERROR_LEN])
{
	const char *word = p->next < p->argc ? p->argv[p->next] : NULL;

	if (!word)
		return fail(error, "option '%s' wants a value", option);
	if (strncmp(word, "--", 2) == 0)
		return fail(error, "option '%s' wants a value, '%s' is an option", option, word);
	p->next++;
	*ret_value = word;
	return 0;
}

static int next_long(struct optparse *p, char *word, const char **ret_value,
		     char error[OPTPARSE_ERROR_LEN])
{
	const char *name = word + 2, *equals = strchr(name, '=');
	const size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct optparse_option *o = p->options;
	int r = 0;

	while (o->name && (strncmp(o->name, name, len) != 0 || o->name[len]))
		o++;
	if (!o->name)
		return refuse_name(p, name, len, error);
	if (equals && !o->wants_value)
		return fail(error, "option '--%s' takes no value: '%s'", o->name, word);
	if (equals)
		*ret_value = equals + 1;
	else if (o->wants_value)
		r = take_value(p, word, ret_value, error);
	return r < 0 ? r : o->val;
}

static int next_short(struct optparse *p, const char **ret_value, char error[OPTPARSE_ERROR_LEN])
{
	const char option[] = { '-', *p->cluster, '\0' };
	const struct optparse_option *o = p->options;
	const char *rest = p->cluster + 1;
	int r = 0;

	while (o->name && o->val != (unsigned char)option[1])
		o++;
	if (!o->name || option[1] < ' ')
		return fail(error, "unknown option '%s'", option);
	/* "-x=5" would make '=' a part of the value, which is hardly intended. */
	if (o->wants_value && *rest == '=')
		return fail(error, "option '%s' takes its value without '=': '%s%s'", option,
			    option, rest);
	p->cluster = *rest && !o->wants_value ? rest : NULL;
	if (o->wants_value && *rest)
		*ret_value = rest;
	else if (o->wants_value)
		r = take_value(p, option, ret_value, error);
	return r < 0 ? r : o->val;
}

int optparse_next(struct optparse *p, const char **ret_value, char error[OPTPARSE_ERROR_LEN])
{
	char *word;

	*ret_value = NULL;
	if (p->cluster)
		return next_short(p, ret_value, error);
	if (!p->operands && p->next < p->argc && strcmp(p->argv[p->next], "--") == 0) {
		p->operands = true;
		p->next++;
	}
	if (p->next >= p->argc)
		return OPTPARSE_END;
	word = p->argv[p->next++];
	if (p->operands || word[0] != '-' || !word[1]) {
		*ret_value = word;
		return OPTPARSE_OPERAND;
	}
	if (word[1] == '-')
		return next_long(p, word, ret_value, error);
	p->cluster = word + 1;
	return next_short(p, ret_value, error);
}
