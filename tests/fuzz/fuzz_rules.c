// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Rule files and list files: loader/rules/ without what looks names up. Whatever the text is, each
 * error has a place in it, and rules that parse compile to rows and prefixes that keep what
 * common/tproxy_abi.h says about them. An even first byte makes the rest a rule file, an odd one a
 * list file.
 */
#include "fuzz.h"

#include <errno.h>

#include "../../common/parse.c"
#include "../../loader/host/address.c"
#include "rules/compile.h"
#include "rules/grammar.h"
#include "rules/netset.h"
#include "rules/parsed.h"
#include "rules/rules.h"
#include "rules/source.h"
#include "rules/text.h"
#include "upstream_id.h"

/* The file has the line, and the line has the column; a column of its length + 1 is its end. */
static void check_place(const struct source *source, const struct rules_place *at)
{
	const char *line = source->text, *end = line + source->len, *newline;
	unsigned int i;

	for (i = 1; i < at->line; i++) {
		newline = memchr(line, '\n', (size_t)(end - line));
		require(newline);
		line = newline + 1;
	}
	newline = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;
	require(!at->column || at->column - 1 <= (newline ? newline : end) - line);
}

static void check_printable(const char *text)
{
	require(text);
	for (; *text; text++)
		require(*text >= ' ' && *text <= '~');
}

static void check_message(const struct source *source, const struct rules_message *m)
{
	check_place(source, &m->at);
	check_printable(m->text);
	require(!m->source == !m->caret);
	if (!m->source)
		return;
	check_printable(m->source);
	/* A caret for the end of the line is past it. */
	require(strlen(m->caret) <= strlen(m->source) + 1);
	require(m->caret[strspn(m->caret, " ")] == '^');
}

static void check_messages(const struct source *source)
{
	const struct rules_messages *messages = source->messages;
	size_t i;

	for (i = 0; i < messages->n_errors && i < RULES_MESSAGES_MAX; i++)
		check_message(source, &messages->errors[i]);
	for (i = 0; i < messages->n_notes && i < RULES_MESSAGES_MAX; i++)
		check_message(source, &messages->notes[i]);
}

/* The text of a rule, parsed again, gives the same text, and has no end of line. */
static void check_text(const char *text)
{
	char *again = text_of_statement(text, strlen(text));

	check_printable(text);
	require(again && strcmp(again, text) == 0);
	require(text_hash(text) != 0);
	free(again);
}

/* Only a redirect has an upstream, by its name and the id of the name. */
static void check_upstream(const struct tproxy_rules *rules, const char *name, int action,
			   uint32_t id)
{
	require(!*name == !id);
	if (!*name)
		return;
	require(action == TPROXY_RULE_REDIRECT);
	require(upstream_name_is_valid(name, strlen(name)) && upstream_id(name) == id);
	require(rules_find_upstream(rules, id));
}

/* Only a redirect says when connect() succeeds, by one word. */
static void check_flags(int action, uint32_t flags)
{
	require(!flags || flags == TPROXY_RULE_HONEST || flags == TPROXY_RULE_EAGER);
	require(!flags || action == TPROXY_RULE_REDIRECT);
}

static void check_row(const struct rules_compiled *c, const struct tproxy_rule *row)
{
	const struct tproxy_rules *rules = &c->rules;

	require(row->group < c->n_rules);
	require(row->action <= TPROXY_RULE_SKIP);
	require((row->error != 0) == (row->action == TPROXY_RULE_REFUSE));
	require(row->protocol == IPPROTO_TCP || row->protocol == IPPROTO_UDP);
	require(row->protocol == IPPROTO_TCP || row->action >= TPROXY_RULE_REFUSE);
	if (row->action != TPROXY_RULE_SKIP)
		check_upstream(rules, c->list[row->group].upstream, row->action, row->upstream);
	else
		require(!row->upstream);
	check_flags(row->action, row->flags);
	require(row->protocol == IPPROTO_TCP || rules->needs & TPROXY_NEEDS_UDP);
	if (row->conditions & TPROXY_RULE_SET)
		require(row->set < c->n_sets && rules->needs & TPROXY_NEEDS_SETS);
	else
		require(!row->set);
	if (row->conditions & TPROXY_RULE_PORT)
		require(row->port_first && row->port_first <= row->port_last);
	else
		require(!row->port_first && !row->port_last);
	require(row->uid_first <= row->uid_last && row->gid_first <= row->gid_last);
	if (row->conditions & TPROXY_RULE_CGROUP)
		require(row->cgroup < rules->n_cgroup_tests);
	else
		require(!row->cgroup);
	require(!row->comm[TPROXY_COMM_LEN - 1]);
	require(!*row->comm == !(row->conditions & TPROXY_RULE_COMM));
}

static void check_rows(const struct rules_compiled *c)
{
	__u32 i, row = 0;

	require(c->rules.n_rows <= TPROXY_RULES_MAX);
	require(c->rules.n_cgroup_tests <= TPROXY_CGROUP_TESTS_MAX);
	require(c->rules.default_action < TPROXY_RULE_SKIP);
	for (i = 0; i < c->n_rules; i++) {
		require(c->list[i].first_row == row && c->list[i].n_rows > 0);
		check_text(c->list[i].text);
		for (; row < c->list[i].first_row + c->list[i].n_rows; row++) {
			require(c->rules.rows[row].group == i);
			check_row(c, &c->rules.rows[row]);
		}
		/* The last row is no exception. */
		require(c->rules.rows[row - 1].action != TPROXY_RULE_SKIP);
	}
	require(row == c->rules.n_rows);
	check_text(c->by_default.text);
	check_flags(c->rules.default_action, c->rules.default_flags);
	check_upstream(&c->rules, c->by_default.upstream, c->rules.default_action,
		       c->rules.default_upstream);
}

static bool is_barrier(const struct tproxy_prefix *prefix)
{
	size_t i;

	for (i = 0; i < PREFIX_BARRIERS; i++) {
		if (prefix_compare(prefix, &prefix_barriers[i]) == 0)
			return true;
	}
	return false;
}

/* A prefix has all bits of the prefix around it. Inside a barrier it may have fewer. */
static void check_prefixes(const struct rules_compiled *c)
{
	size_t i, k, w;

	for (i = 0; i < c->n_prefixes; i++) {
		struct tproxy_prefix masked = c->prefixes[i];

		require(masked.n_bits <= PREFIX_BITS_MAX && !prefix_mask(&masked));
		if (i > 0)
			require(prefix_compare(&c->prefixes[i - 1], &c->prefixes[i]) < 0);
		for (k = i; k > 0 && !prefix_is_within(&c->prefixes[i], &c->prefixes[k - 1]); k--)
			;
		if (k == 0 || is_barrier(&c->prefixes[i]))
			continue;
		require(memcmp(&c->bits[i], &c->bits[k - 1], sizeof(c->bits[i])) != 0);
		for (w = 0; w < TPROXY_SETS_MAX / 64; w++)
			require(!(c->bits[k - 1].words[w] & ~c->bits[i].words[w]));
	}
}

static void check_rules(struct source *source)
{
	static struct rules_compiled compiled;
	struct parsed parsed = {};
	int r;

	memset(&compiled, 0, sizeof(compiled));
	source->messages = &compiled.messages;
	r = grammar_parse(source, &parsed);
	require(r == 0 || r == -EINVAL);
	require((r == 0) == !compiled.messages.n_errors);
	if (r == 0) {
		r = compile_rules(source, &parsed, &compiled);
		require(r == 0 || r == -EINVAL);
		require((r == 0) == !compiled.messages.n_errors);
	}
	check_messages(source);
	if (r == 0) {
		check_rows(&compiled);
		check_prefixes(&compiled);
	}
	parsed_finish(&parsed);
	rules_compiled_finish(&compiled);
}

static void check_list(struct source *source)
{
	struct rules_messages messages = {};
	struct prefixes prefixes = {};
	struct netset_counts counts;
	size_t i;

	source->messages = &messages;
	require(netset_read(source, &prefixes, &counts) == 0);
	check_messages(source);
	for (i = 0; i < prefixes.n; i++) {
		require(!prefix_is_loopback(&prefixes.list[i]));
		require(!prefix_mask(&prefixes.list[i]));
	}
	prefixes_finish(&prefixes);
	rules_messages_finish(&messages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source source = { .file = "f" };
	char *text;

	if (size == 0)
		return 0;
	/* Of the exact size: nothing follows the text. */
	text = malloc(size > 1 ? size - 1 : 1);
	require(text);
	memcpy(text, data + 1, size - 1);
	source.text = text;
	source.len = size - 1;
	if (*data % 2)
		check_list(&source);
	else
		check_rules(&source);
	free(text);
	return 0;
}
