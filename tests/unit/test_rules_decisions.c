// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the decisions of compiled rules. Random rule files are compiled, and rules_match() of
 * bpf/rules.bpf.h decides random connections by the result. The same connections are decided by the
 * parsed rules, with nothing but their definition: rule by rule, list by list, prefix by prefix.
 */
#include <fnmatch.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "compiled.h"
#include "rules.bpf.h"
#include "unit.h"
#include "upstream_id.h"
#include "util.h"

#define FILES	  1500
#define DECISIONS 800 /* of each file */
#define LEVELS	  4

static __always_inline void rules_name_read(__u64 chunk[RULES_CHUNK_WORDS], const char *name,
					    __u32 offset, __u32 n)
{
	memcpy(chunk, name + offset, n);
}

/* xorshift64*, so that a failure can be repeated. */
static uint64_t random_state = 1;

static unsigned int any_of(unsigned int n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (unsigned int)((random_state * UINT64_C(2685821657736338717) >> 33) % n);
}

#define one_of(list) ((list)[any_of(ARRAY_SIZE(list))])

/* Few values of each kind, so that conditions hold often. */
static const char *const destinations[] = {
	"10.0.0.0/8",  "10.0.0.0/30", "10.0.0.1", "10.0.0.2-10.0.1.5", "0.0.0.0/0",
	"::/0",	       "::/95",	      "fd00::/8", "fd00::1",	       "127.0.0.0/8",
	"127.0.0.1",   "::1",	      "::",	  "0.0.0.0",	       "0.0.0.0/8",
	"0.0.0.0/1",   "126.0.0.0/7", "::/127",	  "10.0.1.0/24",       "::ffff:10.0.0.0/104",
	"255.0.0.0/8", "@one",	      "@other",	  "@one, @other",      "@one, 10.0.0.3",
};
static const char *const addresses[] = {
	"10.0.0.0", "10.0.0.1",	 "10.0.0.3",  "10.0.1.4",    "10.0.1.6",  "10.1.0.0",  "fd00::1",
	"fd00::2",  "127.0.0.1", "127.0.0.2", "126.0.0.1",   "128.0.0.1", "0.0.0.0",   "0.0.0.1",
	"::",	    "::1",	 "::2",	      "2001:db8::1", "1.2.3.4",	  "255.0.0.1", "192.0.2.1",
};
static const char *const ports[] = { "1", "2", "3", "2-4", "1-3", "5-5", "4,2" };
static const char *const ids[] = { "0", "1", "2-3", "0-1", "4", "1,3" };
static const char *const commands[] = { "git", "curl", "\"Web Content\"", "a-command-of-17-b",
					"a" };
static const char *const comms[] = { "git", "curl", "Web Content", "a-command-of-17", "a", "b" };
static const char *const cgroups[] = {
	"/1",
	"/1/2",
	"/1/2/3",
	"/4",
	"/",
	"name:1",
	"name:a*",
	"name:*.service",
	"name:app*.service",
	"name:*",
	"name:app.service",
	"name:longer-than-a-word.s*longer-than-a-word.service",
};
static const char *const cgroup_names[] = {
	"1",
	"2",
	"3",
	"4",
	"app.service",
	"apple",
	"a",
	"app-1.service",
	"x.service",
	"app.servicex",
	"longer-than-a-word.service",
	"longer-than-a-word.s_longer-than-a-word.service",
};

/* One connection in the terms of the rule file. */
struct connection {
	__u8 addr[16];
	uint16_t port;
	uint32_t uid, gid;
	const char *comm;
	uint8_t protocol;
	bool include_loopback;
	uint32_t level;		     /* of the process's cgroup, at most LEVELS - 1 */
	uint64_t cgroup_ids[LEVELS]; /* by level */
	const char *names[LEVELS];
};

static void _printf_(1, 2) print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	rule_text_len += (size_t)vsnprintf(rule_text + rule_text_len,
					   sizeof(rule_text) - rule_text_len, fmt, ap);
	va_end(ap);
}

static void print_conditions(unsigned int probability)
{
	if (any_of(probability) == 0)
		print(" to %s", any_of(8) ? one_of(destinations) : "any");
	if (any_of(probability) == 0)
		print(" port %s", one_of(ports));
	if (any_of(probability) == 0)
		print(" uid %s", one_of(ids));
	if (any_of(probability) == 0)
		print(" gid %s", one_of(ids));
	if (any_of(probability) == 0)
		print(" command %s", one_of(commands));
	if (any_of(probability) == 0)
		print(" cgroup %s", one_of(cgroups));
}

static void print_file(void)
{
	static const char *const words[] = { "redirect", "redirect via corp", "direct",
					     "observe",	 "refuse EACCES",     "refuse udp" };
	unsigned int n = 1 + any_of(any_of(4) ? 12 : 40), exceptions;
	const char *word;

	rule_text_len = 0;
	print("set one = %s, %s\n", destinations[any_of(15)], destinations[any_of(15)]);
	print("set other = %s\n", destinations[any_of(15)]);
	while (n--) {
		word = one_of(words);
		print("%s", word);
		print_conditions(3);
		if (strcmp(word, "redirect") == 0 && any_of(2))
			print(" via %s", any_of(2) ? "direct" : "squid");
		for (exceptions = any_of(8) / 5; exceptions; exceptions--) {
			print(" unless uid %s", one_of(ids));
			print_conditions(4);
		}
		print("\n");
	}
	if (any_of(2))
		print("default %s\n", one_of(words));
}

static struct connection make_connection(void)
{
	struct connection c = {
		.port = (uint16_t)(1 + any_of(6)),
		.uid = any_of(6),
		.gid = any_of(6),
		.comm = one_of(comms),
		.protocol = any_of(4) ? IPPROTO_TCP : IPPROTO_UDP,
		.include_loopback = any_of(8) == 0,
		.level = any_of(LEVELS),
		.cgroup_ids = { 1000 },
		.names = { "" }, /* of the root */
	};
	uint32_t i;

	read_address(one_of(addresses), c.addr);
	for (i = 1; i <= c.level; i++) {
		const unsigned int name = any_of(ARRAY_SIZE(cgroup_names));

		/* The id of /1/2/3 is 123. Names that are no number have ids of no path. */
		c.names[i] = cgroup_names[name];
		c.cgroup_ids[i] = (i == 1 ? 0 : 10 * c.cgroup_ids[i - 1]) + name + 1;
		if (name >= 4)
			c.cgroup_ids[i] = 5000 + name;
	}
	return c;
}

/* The definition of rules. */

static bool is_mapped(const __u8 addr[16])
{
	static const __u8 prefix[12] = { [10] = 0xff, 0xff };

	return memcmp(addr, prefix, sizeof(prefix)) == 0;
}

static bool is_loopback(const __u8 addr[16])
{
	static const __u8 zeros[16];

	if (is_mapped(addr))
		return addr[12] == 127 || memcmp(addr + 12, zeros, 4) == 0;
	return memcmp(addr, zeros, 15) == 0 && addr[15] <= 1;
}

/* Loopback is in a prefix that consists of it, IPv4 in a prefix of IPv4. */
static bool is_in_prefix(const __u8 addr[16], const struct tproxy_prefix *prefix)
{
	unsigned int i;

	for (i = 0; i < prefix->n_bits; i++) {
		if ((addr[i / 8] ^ prefix->addr[i / 8]) & 0x80 >> i % 8)
			return false;
	}
	if (is_mapped(addr) && prefix->n_bits < 96)
		return false;
	if (!is_loopback(addr) || prefix->n_bits == 128)
		return true;
	return is_mapped(addr) && addr[12] == 127 && prefix->n_bits >= 104;
}

static bool is_in_prefixes(const __u8 addr[16], const struct prefixes *prefixes)
{
	size_t i;

	for (i = 0; i < prefixes->n; i++) {
		if (is_in_prefix(addr, &prefixes->list[i]))
			return true;
	}
	return false;
}

static bool item_holds(const struct parsed_item *item, enum parsed_condition condition,
		       const struct connection *c)
{
	const uint32_t number = condition == PARSED_PORT  ? c->port
				: condition == PARSED_UID ? c->uid
							  : c->gid;
	uint32_t i;

	switch (item->type) {
	case PARSED_SET:
		return is_in_prefixes(c->addr, &parsed.sets[item->number_first].list.prefixes);
	case PARSED_NUMBERS:
		return item->number_first <= number && number <= item->number_last;
	case PARSED_COMMAND:
		return strncmp(item->word, c->comm, 15) == 0;
	case PARSED_CGROUP_PATH:
		return item->cgroup_level <= c->level &&
		       c->cgroup_ids[item->cgroup_level] == item->cgroup_id;
	default:
		for (i = 0; i <= c->level; i++) {
			if (fnmatch(item->word, c->names[i], FNM_NOESCAPE) == 0)
				return true;
		}
		return false;
	}
}

static bool list_holds(const struct parsed_list *list, enum parsed_condition condition,
		       const struct connection *c)
{
	size_t i;

	if (!list->given || list->any || is_in_prefixes(c->addr, &list->prefixes))
		return true;
	for (i = 0; i < list->n_items; i++) {
		if (item_holds(&list->items[i], condition, c))
			return true;
	}
	return false;
}

static bool conditions_hold(const struct parsed_conditions *conditions, const struct connection *c)
{
	size_t i;

	for (i = 0; i < _PARSED_CONDITION_MAX; i++) {
		if (!list_holds(&conditions->lists[i], (enum parsed_condition)i, c))
			return false;
	}
	return true;
}

/* Returns the number of the rule that decides, or -1. */
static int decide_by_definition(const struct connection *c)
{
	size_t i, k;

	for (i = 0; i < parsed.n_rules; i++) {
		const struct parsed_rule *rule = &parsed.rules[i];
		const struct parsed_list *to = &rule->conditions.lists[PARSED_TO];

		if (rule->protocol != c->protocol || !conditions_hold(&rule->conditions, c))
			continue;
		if (is_loopback(c->addr) && !c->include_loopback && (!to->given || to->any))
			continue;
		for (k = 0; k < rule->n_unless && !conditions_hold(&rule->unless[k], c); k++)
			;
		if (k == rule->n_unless)
			return (int)i;
	}
	return -1;
}

/* Returns the upstream of a rule, or of the default for -1. */
static __u32 upstream_by_definition(int rule)
{
	const char *name = rule < 0 ? parsed.by_default.upstream : parsed.rules[rule].upstream;

	return *name ? upstream_id(name) : 0;
}

/* What the kernel half does with the compiled rules. */

static int decide_by_rows(const struct connection *c, __u32 *ret_upstream)
{
	struct rule_facts facts = {
		.sets = look_up(c->addr),
		.uid = c->uid,
		.gid = c->gid,
		.port = c->port,
		.protocol = c->protocol,
		.named_only = is_loopback(c->addr) && !c->include_loopback,
	};
	char comm[TPROXY_COMM_LEN] = "";
	__u32 i;
	int row;

	strcpy(comm, c->comm);
	memcpy(facts.comm, comm, sizeof(comm));
	for (i = 0; i <= c->level; i++)
		facts.cgroups |= rules_test_cgroup(&compiled.rules, c->cgroup_ids[i], c->names[i],
						   (__u32)strlen(c->names[i]));
	row = rules_match(&compiled.rules, &facts);
	*ret_upstream = row == RULES_NO_ROW ? compiled.rules.default_upstream
					    : compiled.rules.rows[row].upstream;
	return row == RULES_NO_ROW ? -1 : compiled.rules.rows[row].group;
}

static void check_decisions(unsigned int file, size_t *ret_matched)
{
	unsigned int i;

	for (i = 0; i < DECISIONS; i++) {
		const struct connection c = make_connection();
		const int expected = decide_by_definition(&c);
		__u32 upstream;
		const int decided = decide_by_rows(&c, &upstream);

		*ret_matched += expected >= 0;
		if (decided != expected || upstream != upstream_by_definition(expected))
			fail_msg("file %u, connection %u: rule %d via %08x, not %d, in\n%s", file,
				 i, decided, upstream, expected, rule_text);
	}
}

static void test_property(void **state)
{
	unsigned int file = 0, refused = 0;
	size_t matched = 0;

	while (file < FILES) {
		print_file();
		/* "unless uid 1 to any uid 2" and "default refuse udp" are
		 * errors. */
		if (parse() < 0) {
			refused++;
			finish(NULL);
			continue;
		}
		assert_int_equal(compile(), 0);
		check_decisions(file++, &matched);
		finish(NULL);
	}
	/* Rules match some connections and not others, and few files are refused. */
	assert_in_range(matched, FILES * DECISIONS / 4, FILES * DECISIONS - FILES * DECISIONS / 10);
	assert_true(refused < 2 * FILES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_property, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
