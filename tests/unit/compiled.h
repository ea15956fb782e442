/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A rule file in memory and what it compiles to, for the tests of loader/rules/compile.h. Included
 * by one file of each test program.
 */
#ifndef TPROXY_COMPILED_H
#define TPROXY_COMPILED_H

#include "rules/compile.h"

#include <arpa/inet.h>
#include <string.h>

#include "rules/grammar.h"
#include "rules/parsed.h"
#include "rules/rules.h"
#include "rules/source.h"
#include "unit.h"

static char rule_text[65536];
static size_t rule_text_len;
static struct parsed parsed;
static struct rules_compiled compiled;

static int parse(void)
{
	struct source source = { "f", rule_text, rule_text_len, &compiled.messages };

	return grammar_parse(&source, &parsed);
}

/* Stands in for resolve.c: cgroup /1/2/3 has the id 123. */
static void resolve_list(struct parsed_list *list)
{
	size_t i;
	const char *p;

	for (i = 0; i < list->n_items; i++) {
		struct parsed_item *item = &list->items[i];

		if (item->type != PARSED_CGROUP_PATH)
			continue;
		for (p = item->word; *p; p++) {
			if (*p == '/')
				continue;
			item->cgroup_id = 10 * item->cgroup_id + (uint64_t)(*p - '0');
			item->cgroup_level++;
		}
		/* The root. */
		if (!item->cgroup_id)
			item->cgroup_id = 1000;
	}
}

static void resolve(void)
{
	size_t i, k;

	for (i = 0; i < parsed.n_rules; i++) {
		resolve_list(&parsed.rules[i].conditions.lists[PARSED_CGROUP]);
		for (k = 0; k < parsed.rules[i].n_unless; k++)
			resolve_list(&parsed.rules[i].unless[k].lists[PARSED_CGROUP]);
	}
}

static int compile(void)
{
	struct source source = { "f", rule_text, rule_text_len, &compiled.messages };

	resolve();
	return compile_rules(&source, &parsed, &compiled);
}

static void read_address(const char *from, __u8 addr[16])
{
	memset(addr, 0, 16);
	if (strchr(from, ':')) {
		assert_int_equal(inet_pton(AF_INET6, from, addr), 1);
		return;
	}
	addr[10] = addr[11] = 0xff;
	assert_int_equal(inet_pton(AF_INET, from, addr + 12), 1);
}

/* The bits of the longest prefix, which is the last that contains the address. */
static struct tproxy_set_bits look_up(const __u8 addr[16])
{
	struct tproxy_prefix address = { .n_bits = 128 };
	size_t i = compiled.n_prefixes;

	memcpy(address.addr, addr, sizeof(address.addr));
	while (i--) {
		if (prefix_is_within(&address, &compiled.prefixes[i]))
			return compiled.bits[i];
	}
	return (struct tproxy_set_bits){};
}

static int finish(void **state)
{
	parsed_finish(&parsed);
	rules_compiled_finish(&compiled);
	return 0;
}

#endif
