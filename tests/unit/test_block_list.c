// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Block lists: lists in memory, their files, what they must not block, and the ssh peer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "block/file.h"
#include "block/list.h"
#include "block/safety.h"
#include "host/gateways.h"
#include "host/ssh_peer.h"
#include "rules/message.h"
#include "rules/prefix.h"
#include "rules/source.h"
#include "util.h"

#define NOW UINT64_C(1000000000)

static struct tproxy_prefix prefix_of(const char *text)
{
	struct prefixes prefixes = {};
	struct tproxy_prefix prefix;

	assert_int_equal(prefixes_parse(&prefixes, text, strlen(text), true), PREFIX_OK);
	assert_int_equal(prefixes.n, 1);
	prefix = prefixes.list[0];
	prefixes_finish(&prefixes);
	return prefix;
}

static void add(struct block_items *items, const char *text, uint64_t ends)
{
	const struct tproxy_block_entry entry = { .ends_ns = ends };
	const struct tproxy_prefix prefix = prefix_of(text);

	assert_int_equal(block_items_add(items, &prefix, &entry), 0);
}

/* Makes sorted items of words. */
static struct block_items items_of(const char *words)
{
	struct block_items items = {};
	char *copy = strdup(words), *word, *rest = copy;

	while ((word = strsep(&rest, " "))) {
		if (*word)
			add(&items, word, 0);
	}
	free(copy);
	block_items_sort(&items);
	return items;
}

static void test_sort_keeps_the_later_end(void **state)
{
	struct block_items items = {};

	add(&items, "192.0.2.1", 5);
	add(&items, "10.0.0.0/8", 0);
	add(&items, "192.0.2.1", 9);
	add(&items, "10.0.0.0/8", 7);
	add(&items, "192.0.2.1", 7);
	block_items_sort(&items);
	assert_int_equal(items.n, 2);
	assert_int_equal(items.list[0].entry.ends_ns, 0);
	assert_int_equal(items.list[1].entry.ends_ns, 9);
	assert_int_equal(items.list[1].entry.n_bits, 128);
	free(items.list);
}

static void check_around(const struct block_items *items, const char *text, const char *expected)
{
	const struct tproxy_prefix prefix = prefix_of(text);
	const struct block_item *item = block_items_around(items, &prefix, NOW);
	char found[PREFIX_FORMAT_LEN];

	if (item)
		assert_string_equal(prefix_format(&item->prefix, found, sizeof(found)), expected);
	else
		assert_null(expected);
}

static void test_the_longest_that_has_not_ended(void **state)
{
	struct block_items items = {};

	add(&items, "::/0", 0);
	add(&items, "10.0.0.0/8", 0);
	add(&items, "10.1.0.0/16", NOW);
	add(&items, "10.1.2.0/24", NOW + 1);
	block_items_sort(&items);
	check_around(&items, "10.1.2.3", "10.1.2.0/24");
	check_around(&items, "10.1.9.9", "10.0.0.0/8");
	check_around(&items, "10.1.0.0/16", "10.0.0.0/8");
	check_around(&items, "2001:db8::1", "::/0");
	/* ::/0 is not about IPv4. */
	check_around(&items, "192.0.2.1", NULL);
	assert_int_equal(block_items_drop_ended(&items, NOW), 1);
	assert_int_equal(items.n, 3);
	free(items.list);
}

static void test_nests(void **state)
{
	struct block_items items = {};
	char text[32];
	int i;

	for (i = 0; i < TPROXY_BLOCK_ENDED_MAX; i++) {
		snprintf(text, sizeof(text), "0.0.0.0/%d", i + 4);
		add(&items, text, NOW);
	}
	add(&items, "0.0.0.0/24", 0);
	add(&items, "0.0.0.1", 0);
	add(&items, "128.0.0.0/4", NOW);
	block_items_sort(&items);
	assert_null(block_items_too_deep(&items));
	add(&items, "0.0.0.2", NOW);
	block_items_sort(&items);
	assert_non_null(block_items_too_deep(&items));
	free(items.list);
}

/* One address, and for each bit another one that differs there first: 128 entries and ::/0. */
static void test_paths(void **state)
{
	const struct tproxy_block_entry entry = {};
	struct block_items items = {}, chain = {};
	unsigned int bit;

	for (bit = 0; bit < 128; bit++) {
		struct tproxy_prefix prefix = { .n_bits = bit + 1 };

		prefix.addr[bit / 8] = (__u8)(0x80 >> bit % 8);
		assert_int_equal(block_items_add(&items, &prefix, &entry), 0);
		assert_int_equal(
			block_items_add(&chain, &(struct tproxy_prefix){ bit, {} }, &entry), 0);
	}
	block_items_sort(&items);
	block_items_sort(&chain);
	assert_false(block_items_too_nested(&items));
	assert_false(block_items_too_nested(&chain));
	add(&items, "::", 0);
	add(&chain, "::", 0);
	block_items_sort(&items);
	block_items_sort(&chain);
	assert_true(block_items_too_nested(&items));
	assert_true(block_items_too_nested(&chain));
	assert_non_null(block_items_all(&chain));
	assert_null(block_items_all(&items));
	add(&items, "0.0.0.0/0", 0);
	assert_non_null(block_items_all(&items));
	free(items.list);
	free(chain.list);
}

static void test_cover(void **state)
{
	static const struct {
		const char *words;
		bool ipv4, ipv6;
	} cases[] = {
		{ "", false, false },
		{ "0.0.0.0/0", true, false },
		{ "::/0", false, true },
		{ "0.0.0.0/1 128.0.0.0/1", true, false },
		{ "0.0.0.0/1 128.0.0.0/2 192.0.0.0/3", true, false },
		{ "0.0.0.0/1 10.0.0.0/8 128.0.0.0/2 192.0.0.0/4", false, false },
		{ "0.0.0.0/1 129.0.0.0/8", false, false },
		{ "2000::/4 3000::/4", false, true },
		{ "2000::/4 3000::/5", false, false },
		{ "10.0.0.0/8 fe80::/10", false, false },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct block_items items = items_of(cases[i].words);

		assert_int_equal(block_items_cover_ipv4(&items), cases[i].ipv4);
		assert_int_equal(block_items_cover_ipv6(&items), cases[i].ipv6);
		free(items.list);
	}
}

/* Counted by hand: one node for each prefix, and one where two part that neither contains. */
static void test_nodes(void **state)
{
	static const struct {
		const char *words;
		size_t nodes;
	} cases[] = {
		{ "", 0 },
		{ "10.0.0.0/8", 1 },
		{ "10.0.0.0/8 10.1.0.0/16", 2 },
		{ "10.0.0.0/8 11.0.0.0/8", 3 },
		{ "10.0.0.0/8 10.1.0.0/16 10.2.0.0/16", 4 },
		{ "192.0.2.0 192.0.2.1 192.0.2.2 192.0.2.3", 7 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct block_items items = items_of(cases[i].words);

		assert_int_equal(block_items_nodes(&items), cases[i].nodes);
		free(items.list);
	}
}

/* Parses a text. Returns the number of errors. */
static size_t parse(const char *text, struct block_list *list, struct block_file_counts *counts)
{
	struct rules_messages *messages = calloc(1, sizeof(*messages));
	const struct source source = {
		.file = "test", .text = text, .len = strlen(text), .messages = messages
	};
	const struct tproxy_block_entry like = { .flags = TPROXY_BLOCK_BY_FILE };
	size_t n;

	assert_int_equal(block_file_parse(&source, &like, NOW, list, counts), 0);
	n = messages->n_errors;
	rules_messages_finish(messages);
	free(messages);
	return n;
}

static void test_file(void **state)
{
	static const char text[] = "\xef\xbb\xbf# a list\r\n"
				   "192.0.2.1\r\n"
				   "  10.1.2.3/8\t; a network\n"
				   "\n"
				   "allow 2001:db8::/32 for 2h # why\n"
				   "block 198.51.100.0-198.51.100.2 for 1500ms\n"
				   "127.0.0.0/8\n"
				   "192.0.2.2#no blank";
	struct block_file_counts counts = {};
	struct block_list list = {};
	struct block_items *blocks = &list.kinds[TPROXY_BLOCK];

	assert_int_equal(parse(text, &list, &counts), 0);
	assert_int_equal(blocks->n, 5);
	assert_int_equal(counts.n_masked, 1);
	assert_int_equal(counts.n_loopback, 1);
	assert_int_equal(blocks->list[0].entry.ends_ns, 0);
	assert_int_equal(blocks->list[2].entry.ends_ns, NOW + UINT64_C(1500000000));
	assert_int_equal(blocks->list[0].entry.flags, TPROXY_BLOCK_BY_FILE);
	assert_int_equal(list.kinds[TPROXY_ALLOW].n, 1);
	assert_int_equal(list.kinds[TPROXY_ALLOW].list[0].entry.ends_ns,
			 NOW + UINT64_C(7200000000000));
	block_list_finish(&list);
}

static void test_wrong_lines(void **state)
{
	static const char *const lines[] = {
		"allow",
		"block # 192.0.2.1",
		"example.org",
		"192.0.2.1/33",
		"192.0.2.1/08",
		"2001:db8::/032",
		"192.0.2.9-192.0.2.1",
		"192.0.2.1 192.0.2.2",
		"192.0.2.1 for",
		"192.0.2.1 for 0",
		"192.0.2.1 for 8d",
		"192.0.2.1 for 1h more",
		"192.0.2.1 for 11111111111111111111111111111111111111h",
		"allow block 192.0.2.1",
		"Allow 192.0.2.1",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lines); i++) {
		struct block_file_counts counts = {};
		struct block_list list = {};

		assert_int_equal(parse(lines[i], &list, &counts), 1);
		assert_int_equal(list.kinds[TPROXY_BLOCK].n + list.kinds[TPROXY_ALLOW].n, 0);
		block_list_finish(&list);
	}
}

static void test_nul_byte(void **state)
{
	static const char text[] = "192.0.2.1\0x\n192.0.2.2\n";
	static struct rules_messages messages;
	const struct source source = { "nul", text, sizeof(text) - 1, &messages };
	const struct tproxy_block_entry like = {};
	struct block_file_counts counts = {};
	struct block_list list = {};

	assert_int_equal(block_file_parse(&source, &like, NOW, &list, &counts), 0);
	assert_int_equal(messages.n_errors, 1);
	assert_string_equal(messages.errors[0].text, "expected an address, a CIDR or a range of "
						     "addresses, found a NUL byte");
	assert_int_equal(list.kinds[TPROXY_BLOCK].n, 1);
	rules_messages_finish(&messages);
	block_list_finish(&list);
}

static void test_safety(void **state)
{
	struct block_list list = {
		.kinds = { items_of("192.0.2.0/24 2001:db8::/32"), items_of("192.0.2.0/30") },
	};
	const struct tproxy_prefix inside = prefix_of("192.0.2.9"), spared = prefix_of("192.0.2.1");
	struct gateway gateway = {};
	char why[BLOCK_SAFETY_LEN];

	assert_non_null(block_safety_blocks(&list, inside.addr, NOW));
	assert_null(block_safety_blocks(&list, spared.addr, NOW));
	memcpy(gateway.addr, spared.addr, sizeof(gateway.addr));
	assert_false(block_safety_cuts_off(&list, &gateway, 1, NOW, why));
	memcpy(gateway.addr, inside.addr, sizeof(gateway.addr));
	assert_true(block_safety_cuts_off(&list, &gateway, 1, NOW, why));
	assert_string_equal(why, "192.0.2.0/24 would block the default gateway 192.0.2.9");
	/* An entry that ends protects nothing. */
	add(&list.kinds[TPROXY_ALLOW], "192.0.2.9", NOW + 1000);
	block_items_sort(&list.kinds[TPROXY_ALLOW]);
	assert_true(block_safety_cuts_off(&list, &gateway, 1, NOW, why));
	assert_non_null(block_safety_blocks(&list, inside.addr, NOW));
	add(&list.kinds[TPROXY_ALLOW], "192.0.2.8/30", 0);
	block_items_sort(&list.kinds[TPROXY_ALLOW]);
	assert_false(block_safety_cuts_off(&list, &gateway, 1, NOW, why));
	block_list_finish(&list);
}

static void test_ssh_peer(void **state)
{
	struct tproxy_endpoint addr;
	const struct tproxy_prefix ipv4 = prefix_of("192.0.2.7"), ipv6 = prefix_of("fe80::1");

	assert_true(ssh_peer_parse("192.0.2.7 50000 198.51.100.1 22", &addr));
	assert_memory_equal(addr.addr, ipv4.addr, 16);
	assert_int_equal(addr.port, 50000);
	assert_true(ssh_peer_parse("fe80::1%eth0 50000 fe80::2%eth0 22", &addr));
	assert_memory_equal(addr.addr, ipv6.addr, 16);
	assert_true(ssh_peer_parse("::ffff:192.0.2.7 50000 ::ffff:198.51.100.1 22", &addr));
	assert_memory_equal(addr.addr, ipv4.addr, 16);
	assert_false(ssh_peer_parse("", &addr));
	assert_false(ssh_peer_parse("192.0.2.7", &addr));
	assert_false(ssh_peer_parse("UNKNOWN 65535 UNKNOWN 65535", &addr));
	assert_false(ssh_peer_parse("192.0.2.7 0 198.51.100.1 22", &addr));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sort_keeps_the_later_end),
		cmocka_unit_test(test_the_longest_that_has_not_ended),
		cmocka_unit_test(test_nests),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_cover),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_wrong_lines),
		cmocka_unit_test(test_nul_byte),
		cmocka_unit_test(test_safety),
		cmocka_unit_test(test_ssh_peer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
