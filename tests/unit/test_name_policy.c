// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests what the lines of [names] decide, by the kind of the upstream, ECH and the address. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "upstream/name_policy.h"
#include "upstream/names.h"
#include "upstream/upstream.h"
#include "upstream_id.h"
#include "util.h"

static struct upstreams *set;
static struct upstreams_conf conf;
static char error[NAMES_ERROR_LEN];
static unsigned int decided_by; /* line of the last decision */

static struct upstream_conf *add(const char *name, enum upstream_type type)
{
	struct upstream_conf *u;

	conf.list = reallocarray(conf.list, conf.n + 1, sizeof(*conf.list));
	assert_non_null(conf.list);
	u = &conf.list[conf.n++];
	*u = (struct upstream_conf){ .type = type, .id = upstream_id(name) };
	u->addr.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(1080) };
	strcpy(u->name, name);
	return u;
}

static void add_member(struct upstream_conf *group, const char *name)
{
	group->members[group->n_members].weight = 1;
	strcpy(group->members[group->n_members++].name, name);
}

static void line(const char *pattern, const char *action)
{
	assert_int_equal(names_parse_line(&conf.names, 1 + (unsigned int)names_count(conf.names),
					  pattern, action, error),
			 0);
}

static int setup(void **state)
{
	struct upstream_conf *group;

	conf = (struct upstreams_conf){};
	add("plain", UPSTREAM_SOCKS5);
	add("names", UPSTREAM_SOCKS5)->send_name = true;
	add("also", UPSTREAM_HTTP)->send_name = true;
	add("leaky", UPSTREAM_HTTP)->send_name = true;
	conf.list[3].when_down = UPSTREAM_DOWN_DIRECT;
	/* These types know no names. */
	add("tcp", UPSTREAM_TCP)->send_name = true;
	add("header", UPSTREAM_TCP)->proxy_header = PROXY_HEADER_V2;
	group = add("both", UPSTREAM_GROUP);
	add_member(group, "names");
	add_member(group, "also");
	group = add("mixed", UPSTREAM_GROUP);
	add_member(group, "names");
	add_member(group, "plain");
	return 0;
}

static int teardown(void **state)
{
	upstreams_unref(set);
	set = NULL;
	return 0;
}

static void make(void)
{
	assert_int_equal(upstreams_new(&conf, NULL, NULL, &set), 0);
}

/* "-": no line; "?": ask; "!ERRNO"; or the name of the upstream. */
static const char *decide(const char *name, bool ech, enum name_address address)
{
	struct sniffed sniffed = { .ech = ech };
	struct name_decision d;
	static char text[16];

	strcpy(sniffed.name, name);
	name_policy(set, &sniffed, address, &d);
	decided_by = d.line;
	switch (d.verdict) {
	case NAME_VERDICT_NONE:
		return "-";
	case NAME_VERDICT_ASK:
		return "?";
	case NAME_VERDICT_UPSTREAM:
		return d.upstream->conf.name;
	case NAME_VERDICT_REFUSE:
		snprintf(text, sizeof(text), "!%d", d.error);
		return text;
	}
	return NULL;
}

static const enum name_address unknown = NAME_ADDRESS_UNKNOWN, of_name = NAME_ADDRESS_OF_NAME,
			       other = NAME_ADDRESS_OTHER;

static void test_address_is_needed(void **state)
{
	static const struct {
		const char *action, *without, *wrong;
	} lines[] = {
		{ "direct", "?", "-" },
		{ "via plain", "?", "-" },
		{ "via tcp", "?", "-" },
		{ "via header", "?", "-" },
		{ "via leaky", "?", "-" },
		{ "via mixed", "?", "-" },
		{ "via names", "names", "names" },
		{ "via both", "both", "both" },
		{ "refuse EPERM", "!1", "!1" },
	};
	char name[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lines); i++) {
		snprintf(name, sizeof(name), "host%zu.test", i);
		line(name, lines[i].action);
	}
	make();
	assert_string_equal(decide("no.line", false, unknown), "-");
	for (i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *got = strrchr(lines[i].action, ' ');
		const bool refuse = lines[i].without[0] == '!';

		snprintf(name, sizeof(name), "host%zu.test", i);
		assert_string_equal(decide(name, false, unknown), lines[i].without);
		assert_string_equal(decide(name, false, other), lines[i].wrong);
		assert_string_equal(decide(name, false, of_name), refuse ? "!1"
								  : got	 ? got + 1
									 : "direct");
		/* The name may stand for another one. */
		assert_string_equal(decide(name, true, unknown), refuse ? "!1" : "-");
		assert_string_equal(decide(name, true, of_name), refuse ? "!1" : "-");
	}
}

static void test_next_line(void **state)
{
	line("a.test", "direct");
	line("*.test", "via plain");
	line("a.test", "via names");
	line("*", "refuse");
	make();
	assert_string_equal(decide("a.test", false, unknown), "?");
	assert_string_equal(decide("a.test", false, of_name), "direct");
	assert_string_equal(decide("a.test", false, other), "names");
	assert_int_equal(decided_by, 3);
	assert_string_equal(decide("b.test", false, other), "!111");
	assert_int_equal(decided_by, 4);
	assert_string_equal(decide("a.test", true, of_name), "!111");
}

/* With --sniff-ech the address decides, also if the upstream could get the name. */
static void test_sniff_ech(void **state)
{
	line("a.test", "direct");
	line("b.test", "via names");
	conf.sniff_ech = true;
	make();
	assert_string_equal(decide("a.test", true, unknown), "?");
	assert_string_equal(decide("a.test", true, of_name), "direct");
	assert_string_equal(decide("b.test", true, unknown), "?");
	assert_string_equal(decide("b.test", true, of_name), "names");
	assert_string_equal(decide("b.test", true, other), "-");
	assert_string_equal(decide("b.test", false, unknown), "names");
}

/* The pattern * depends on no name. */
static void test_any(void **state)
{
	line("*", "via plain");
	make();
	assert_string_equal(decide("a.test", false, unknown), "plain");
	assert_string_equal(decide("a.test", true, other), "plain");
}

static void test_any_direct(void **state)
{
	line("*", "direct");
	make();
	assert_string_equal(decide("a.test", false, unknown), "?");
	assert_string_equal(decide("a.test", false, other), "-");
	assert_string_equal(decide("a.test", true, of_name), "direct");
}

static bool needs(const char *name)
{
	return name_policy_needs_name(set, upstreams_find(set, upstream_id(name)));
}

static void test_needs_name(void **state)
{
	make();
	assert_false(name_policy_needs_name(set, NULL));
	assert_false(needs("plain"));
	assert_false(needs("tcp"));
	assert_true(needs("names"));
	assert_true(needs("header"));
	assert_true(needs("both"));
	assert_true(needs("mixed"));
}

static void test_lines_need_name(void **state)
{
	line("a.test", "refuse");
	make();
	assert_true(name_policy_needs_name(set, NULL));
	assert_true(needs("plain"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_address_is_needed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_next_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sniff_ech, setup, teardown),
		cmocka_unit_test_setup_teardown(test_any, setup, teardown),
		cmocka_unit_test_setup_teardown(test_any_direct, setup, teardown),
		cmocka_unit_test_setup_teardown(test_needs_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lines_need_name, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
