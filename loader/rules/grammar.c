// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Parses a rule file by recursive descent, see grammar.h, with one token of lookahead.
 *
 *   file       = { statement }
 *   statement  = "set" NAME "=" list | "set" NAME "file" PATH
 *              | "default" action [ "via" NAME ]
 *              | action { condition | "tcp" | "udp" | "name" NAME | "via" NAME }
 *                { "unless" condition ... }
 *   action     = "redirect" [ "honest" | "eager" ] | "direct" | "observe" | "refuse" [ ERRNO ]
 *   condition  = ( "to" | "port" | "uid" | "gid" | "command" | "cgroup" ) list
 *   list       = value { "," value }
 *
 * A function that parses a part returns true, or adds a message and returns false. After an error
 * the rest of the statement is skipped, so each statement has one error at most. Checks that need
 * the whole file, such as whether each named set exists, are done at the end.
 */
#include "grammar.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "errno_name.h"
#include "parsed.h"
#include "source.h"
#include "text.h"
#include "token.h"
#include "upstream_id.h"
#include "util.h"
#include "value.h"

struct grammar {
	const struct source *source;
	struct tokens tokens;
	struct token token;
	struct parsed *parsed;
	bool no_memory;
	bool has_protocol; /* of the rule that is being parsed */
};

static const char *const condition_names[_PARSED_CONDITION_MAX] = {
	[PARSED_TO] = "to",   [PARSED_PORT] = "port",	 [PARSED_UID] = "uid",
	[PARSED_GID] = "gid", [PARSED_COMM] = "command", [PARSED_CGROUP] = "cgroup",
};

static const struct {
	const char *name;
	enum tproxy_rule_action action;
} actions[] = {
	{ "redirect", TPROXY_RULE_REDIRECT },
	{ "direct", TPROXY_RULE_DIRECT },
	{ "observe", TPROXY_RULE_OBSERVE },
	{ "refuse", TPROXY_RULE_REFUSE },
};

#define EXPECTED_CONNECT "\"honest\" or \"eager\", one of them, directly after \"redirect\""

/* Limit of the file's text in a message. The whole line is shown below it. */
#define FOUND_MAX 80

static void advance(struct grammar *g)
{
	g->token = tokens_next(&g->tokens);
}

static bool out_of_memory(struct grammar *g)
{
	g->no_memory = true;
	return false;
}

static bool is_value(const struct token *token)
{
	return token->type == TOKEN_WORD || token->type == TOKEN_QUOTED;
}

/* Adds the error that the token is not what was expected. Returns false. */
static bool expected(struct grammar *g, const char *what)
{
	const struct token *token = &g->token;

	if (token->type == TOKEN_BAD)
		what = token->expected;
	/* A word that begins with a quote is bad only if the closing quote is missing. */
	if (token->type == TOKEN_END || (token->type == TOKEN_BAD && *token->text == '"'))
		source_error(g->source, token->at, "expected %s, found the end of the line", what);
	else if (!*token->text)
		source_error(g->source, token->at, "expected %s, found a NUL byte", what);
	else
		source_error(g->source, token->at, "expected %s, found \"%.*s\"", what,
			     (int)(token->len < FOUND_MAX ? token->len : FOUND_MAX), token->text);
	return false;
}

/* Reads a name of less than @size bytes, and moves on. */
static bool parse_name(struct grammar *g, char *ret_name, size_t size, const char *what)
{
	if (!is_value(&g->token) || !value_is_name(g->token.text, g->token.len, size)) {
		char text[128];

		snprintf(text, sizeof(text),
			 "the name of a %s, of letters, digits and \".-_\", at most %zu", what,
			 size - 1);
		return expected(g, text);
	}
	memcpy(ret_name, g->token.text, g->token.len);
	ret_name[g->token.len] = '\0';
	advance(g);
	return true;
}

/* Parses values with commas between them. */
static bool parse_list(struct grammar *g, enum parsed_condition condition, struct parsed_list *list)
{
	char what[VALUE_EXPECTED_LEN];
	int r;

	list->given = true;
	list->at = g->token.at;
	for (;;) {
		if (!is_value(&g->token))
			return expected(g, condition == PARSED_TO ? VALUE_DESTINATION : "a value");
		r = value_read(condition, &g->token, list, what);
		if (r < 0)
			return r == -ENOMEM ? out_of_memory(g) : expected(g, what);
		advance(g);
		if (g->token.type != TOKEN_COMMA)
			return true;
		advance(g);
	}
}

/* Returns the conditions that are being parsed: those after the last "unless", if there is one. */
static struct parsed_conditions *current(struct parsed_rule *rule)
{
	return rule->n_unless ? &rule->unless[rule->n_unless - 1] : &rule->conditions;
}

static bool parse_condition(struct grammar *g, struct parsed_rule *rule,
			    enum parsed_condition condition)
{
	struct parsed_list *list = &current(rule)->lists[condition];

	if (list->given) {
		source_error(g->source, g->token.at,
			     "expected \"%s\" once: values of a list have commas between them, and "
			     "one has to match",
			     condition_names[condition]);
		return false;
	}
	advance(g);
	if (condition == PARSED_TO && token_is(&g->token, "any")) {
		list->given = list->any = true;
		list->at = g->token.at;
		advance(g);
		return true;
	}
	return parse_list(g, condition, list);
}

static bool parse_protocol(struct grammar *g, struct parsed_rule *rule)
{
	const bool udp = token_is(&g->token, "udp");

	if (g->has_protocol || rule->n_unless) {
		source_error(
			g->source, g->token.at,
			"expected one protocol, before \"unless\": it is that of the whole rule");
		return false;
	}
	if (udp && rule->action != TPROXY_RULE_REFUSE) {
		source_error(
			g->source, g->token.at,
			"expected \"udp\" with refuse only: UDP is not redirected or observed");
		return false;
	}
	g->has_protocol = true;
	rule->protocol = udp ? IPPROTO_UDP : IPPROTO_TCP;
	advance(g);
	return true;
}

static bool parse_rule_name(struct grammar *g, struct parsed_rule *rule)
{
	const struct rules_place at = g->token.at;
	char name[TPROXY_RULE_NAME_LEN];
	size_t i;

	advance(g);
	if (*rule->name) {
		source_error(g->source, at, "expected one name for a rule");
		return false;
	}
	if (!parse_name(g, name, sizeof(name), "rule"))
		return false;
	for (i = 0; i < g->parsed->n_rules; i++) {
		if (strcmp(g->parsed->rules[i].name, name) != 0)
			continue;
		source_error(g->source, at,
			     "expected a name of its own: the rule in line %u is \"%s\"",
			     g->parsed->rules[i].at.line, name);
		return false;
	}
	strcpy(rule->name, name);
	return true;
}

/* Parses the upstream of a rule, or of the default. */
static bool parse_via(struct grammar *g, struct parsed_rule *rule)
{
	const char *wrong = NULL;

	if (rule->action != TPROXY_RULE_REDIRECT)
		wrong = "expected \"via\" with redirect only: other connections do not come to the relay";
	else if (*rule->upstream)
		wrong = "expected one \"via\": a group of upstreams has a name of its own";
	else if (rule->n_unless)
		wrong = "expected \"via\" before \"unless\": it is that of the whole rule";
	if (wrong) {
		source_error(g->source, g->token.at, "%s", wrong);
		return false;
	}
	advance(g);
	if (!is_value(&g->token) || !upstream_name_is_valid(g->token.text, g->token.len))
		return expected(g, UPSTREAM_NAME_EXPECTED);
	memcpy(rule->upstream, g->token.text, g->token.len);
	rule->upstream[g->token.len] = '\0';
	advance(g);
	return true;
}

/* Checks that "unless" is followed by a condition other than "to any". */
static bool check_unless(struct grammar *g, struct parsed_rule *rule)
{
	if (rule->n_unless && parsed_is_empty(current(rule)))
		return expected(g, "a condition after \"unless\", other than \"to any\"");
	return true;
}

static bool parse_unless(struct grammar *g, struct parsed_rule *rule)
{
	if (!check_unless(g, rule))
		return false;
	if (!parsed_add_unless(rule))
		return out_of_memory(g);
	advance(g);
	return true;
}

/* Returns the flag of a word that says when connect() succeeds, or 0. */
static uint8_t connect_flag(const struct token *token)
{
	return token_is(token, "honest")  ? TPROXY_RULE_HONEST
	       : token_is(token, "eager") ? TPROXY_RULE_EAGER
					  : 0;
}

/* Parses what may follow the action of a rule. */
static bool parse_part(struct grammar *g, struct parsed_rule *rule)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(condition_names); i++) {
		if (token_is(&g->token, condition_names[i]))
			return parse_condition(g, rule, (enum parsed_condition)i);
	}
	if (token_is(&g->token, "tcp") || token_is(&g->token, "udp"))
		return parse_protocol(g, rule);
	if (token_is(&g->token, "name"))
		return parse_rule_name(g, rule);
	if (token_is(&g->token, "unless"))
		return parse_unless(g, rule);
	if (token_is(&g->token, "via"))
		return parse_via(g, rule);
	if (value_is_errno(&g->token) && rule->action == TPROXY_RULE_REFUSE)
		return expected(g, "the errno directly after \"refuse\"");
	if (connect_flag(&g->token))
		return expected(g, EXPECTED_CONNECT);
	return expected(g, "a condition (to, port, uid, gid, command, cgroup), tcp, udp, name, via "
			   "or unless, or a comma and one more value");
}

/* Parses the errno of "refuse", if there is one. */
static bool parse_errno(struct grammar *g, struct parsed_rule *rule)
{
	char names[ERRNO_NAMES_LEN];

	if (rule->action != TPROXY_RULE_REFUSE)
		return true;
	rule->error = ECONNREFUSED;
	if (!value_is_errno(&g->token))
		return true;
	rule->error = value_errno(&g->token);
	if (!rule->error)
		return expected(g, errno_names(names));
	advance(g);
	return true;
}

/* Parses such a word after "redirect", if there is one. */
static void parse_connect(struct grammar *g, struct parsed_rule *rule)
{
	if (rule->action != TPROXY_RULE_REDIRECT)
		return;
	rule->flags = connect_flag(&g->token);
	if (rule->flags)
		advance(g);
}

/* Parses the words of an action. If there is none, the error says what the caller expected. */
static bool parse_action(struct grammar *g, struct parsed_rule *rule, const char *what)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(actions); i++) {
		if (!token_is(&g->token, actions[i].name))
			continue;
		rule->at = g->token.at;
		rule->action = (uint8_t)actions[i].action;
		advance(g);
		parse_connect(g, rule);
		return parse_errno(g, rule);
	}
	return expected(g, what);
}

/* Keeps the text of the statement that begins at @start and ends at the token. */
static bool keep_text(struct grammar *g, struct parsed_rule *rule, const char *start)
{
	rule->text = text_of_statement(start, (size_t)(g->token.text - start));
	return rule->text ? true : out_of_memory(g);
}

static bool parse_rule(struct grammar *g)
{
	const char *start = g->token.text;
	struct parsed_rule *rule;

	if (g->parsed->n_rules == TPROXY_RULES_MAX) {
		source_error(g->source, g->token.at, "expected at most %d rules", TPROXY_RULES_MAX);
		return false;
	}
	rule = parsed_add_rule(g->parsed);
	if (!rule)
		return out_of_memory(g);
	rule->protocol = IPPROTO_TCP;
	g->has_protocol = false;
	if (!parse_action(g, rule, "set, default, redirect, direct, observe or refuse"))
		return false;
	while (g->token.type != TOKEN_END) {
		if (!parse_part(g, rule))
			return false;
	}
	return check_unless(g, rule) && keep_text(g, rule, start);
}

static bool parse_default(struct grammar *g)
{
	struct parsed_rule *rule = &g->parsed->by_default;
	const char *start = g->token.text;

	if (rule->at.line) {
		source_error(g->source, g->token.at, "expected one default: line %u has it",
			     rule->at.line);
		return false;
	}
	advance(g);
	if (!parse_action(g, rule, "redirect, direct, observe or refuse"))
		return false;
	if (token_is(&g->token, "via") && !parse_via(g, rule))
		return false;
	if (connect_flag(&g->token))
		return expected(g, EXPECTED_CONNECT);
	if (g->token.type != TOKEN_END)
		return expected(g, "the end of the line: a default has no conditions");
	return keep_text(g, rule, start);
}

static bool check_set_name(struct grammar *g, const struct parsed_set *set)
{
	const struct parsed_set *other;

	for (other = g->parsed->sets; other < set; other++) {
		if (strcmp(other->name, set->name) != 0)
			continue;
		source_error(g->source, set->at, "expected a name of its own: line %u has set %s",
			     other->at.line, set->name);
		return false;
	}
	return true;
}

static bool parse_set_list(struct grammar *g, struct parsed_set *set)
{
	size_t i;

	advance(g);
	if (!parse_list(g, PARSED_TO, &set->list))
		return false;
	for (i = 0; i < set->list.n_items; i++) {
		if (set->list.items[i].type != PARSED_SET)
			continue;
		source_error(g->source, set->list.items[i].at,
			     "expected " VALUE_DESTINATION
			     ", found a set: a rule may list several, \"to @one, @other\"");
		return false;
	}
	if (g->token.type != TOKEN_END)
		return expected(g, "a comma and one more value, or the end of the line");
	return true;
}

static bool parse_set_file(struct grammar *g, struct parsed_set *set)
{
	advance(g);
	if (!is_value(&g->token) || g->token.len == 0)
		return expected(g, "the path of a list file");
	set->file_at = g->token.at;
	set->file = strndup(g->token.text, g->token.len);
	if (!set->file)
		return out_of_memory(g);
	advance(g);
	return g->token.type == TOKEN_END ? true : expected(g, "the end of the line");
}

static bool parse_set(struct grammar *g)
{
	struct parsed_set *set;

	if (g->parsed->n_sets == TPROXY_SETS_MAX) {
		source_error(g->source, g->token.at, "expected at most %d sets", TPROXY_SETS_MAX);
		return false;
	}
	set = parsed_add_set(g->parsed);
	if (!set)
		return out_of_memory(g);
	advance(g);
	set->at = g->token.at;
	if (!parse_name(g, set->name, sizeof(set->name), "set") || !check_set_name(g, set))
		return false;
	if (g->token.type == TOKEN_EQUALS)
		return parse_set_list(g, set);
	if (token_is(&g->token, "file"))
		return parse_set_file(g, set);
	return expected(g, "\"=\" and addresses, or \"file\" and a path");
}

static void parse_statement(struct grammar *g)
{
	if (token_is(&g->token, "set"))
		parse_set(g);
	else if (token_is(&g->token, "default"))
		parse_default(g);
	else
		parse_rule(g);
	while (g->token.type != TOKEN_END)
		advance(g);
}

/* Looks up the sets that a list names. */
static void find_sets(struct grammar *g, struct parsed_list *list)
{
	size_t i, k;

	for (i = 0; i < list->n_items; i++) {
		struct parsed_item *item = &list->items[i];

		if (item->type != PARSED_SET)
			continue;
		for (k = 0; k < g->parsed->n_sets; k++) {
			if (strcmp(g->parsed->sets[k].name, item->word) == 0)
				break;
		}
		if (k == g->parsed->n_sets) {
			source_error(g->source, item->at,
				     "expected a set, found \"@%s\", which no "
				     "line defines",
				     item->word);
			continue;
		}
		item->number_first = (uint32_t)k;
		g->parsed->sets[k].used = true;
	}
}

/* Adds notes about unused sets and duplicate rules. */
static void note_useless(struct grammar *g)
{
	const struct parsed *p = g->parsed;
	size_t i, k;

	for (i = 0; i < p->n_sets; i++) {
		if (!p->sets[i].used)
			source_note(g->source, p->sets[i].at, "no rule has set %s",
				    p->sets[i].name);
	}
	for (i = 0; i < p->n_rules; i++) {
		for (k = 0; k < i && strcmp(p->rules[k].text, p->rules[i].text) != 0; k++)
			;
		if (k < i)
			source_note(g->source, p->rules[i].at,
				    "the rule in line %u is the same, so this one never decides",
				    p->rules[k].at.line);
	}
}

/* Does the checks that need the whole file. */
static void check_file(struct grammar *g)
{
	struct parsed *p = g->parsed;
	size_t i, k;

	for (i = 0; i < p->n_rules; i++) {
		find_sets(g, &p->rules[i].conditions.lists[PARSED_TO]);
		for (k = 0; k < p->rules[i].n_unless; k++)
			find_sets(g, &p->rules[i].unless[k].lists[PARSED_TO]);
	}
	if (!g->no_memory && !g->source->messages->n_errors)
		note_useless(g);
}

int grammar_parse(const struct source *source, struct parsed *ret_parsed)
{
	struct grammar g = { .source = source, .parsed = ret_parsed };

	*ret_parsed = (struct parsed){};
	tokens_init(&g.tokens, source->text, source->len);
	for (advance(&g); !g.no_memory; advance(&g)) {
		if (g.token.type != TOKEN_END)
			parse_statement(&g);
		if (tokens_at_end(&g.tokens))
			break;
	}
	check_file(&g);
	if (g.no_memory)
		return -ENOMEM;
	return source->messages->n_errors ? -EINVAL : 0;
}
