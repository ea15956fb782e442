// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the language of rules: what is parsed, where errors are found and what they say, the text
 * of a rule, prefixes and list files.
 */
#include "rules/grammar.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules/netset.h"
#include "rules/parsed.h"
#include "rules/source.h"
#include "rules/text.h"
#include "unit.h"
#include "util.h"

static struct rules_messages messages;
static struct parsed parsed;

static int parse_text(const char *text, size_t len)
{
	struct source source = { .file = "f", .text = text, .len = len, .messages = &messages };

	return grammar_parse(&source, &parsed);
}

static int finish(void **state)
{
	parsed_finish(&parsed);
	rules_messages_finish(&messages);
	return 0;
}

static void must_parse(const char *text)
{
	const int r = parse_text(text, strlen(text));

	if (r < 0)
		rules_messages_print(&messages, stderr);
	assert_int_equal(r, 0);
}

static const struct parsed_list *list_of(size_t rule, enum parsed_condition condition)
{
	return &parsed.rules[rule].conditions.lists[condition];
}

static void test_file(void **state)
{
	must_parse("set corp = 10.0.0.0/8, 192.168.0.0/16, fd00::/8   # the networks\n"
		   "set bad file \"/etc/tproxy/bad.netset\"\n"
		   "refuse EACCES to 169.254.169.254 unless uid root\n"
		   "direct   to @corp port 5432,6379 name databases\r\n"
		   "observe  uid 1000-1999 command git\n"
		   "redirect cgroup /system.slice/app.service to any port 80,443\n"
		   "refuse   udp port 443\n"
		   "refuse ETIMEDOUT to @bad, \\\n"
		   "  example.org unless port 80 \\\n"
		   "  unless gid adm, 5\n"
		   "default  observe");
	assert_int_equal(parsed.n_sets, 2);
	assert_int_equal(parsed.sets[0].list.prefixes.n, 3);
	assert_string_equal(parsed.sets[1].file, "/etc/tproxy/bad.netset");
	assert_int_equal(parsed.n_rules, 6);

	assert_int_equal(parsed.rules[0].error, EACCES);
	assert_int_equal(parsed.rules[0].n_unless, 1);
	assert_string_equal(parsed.rules[0].unless[0].lists[PARSED_UID].items[0].word, "root");

	assert_int_equal(parsed.rules[1].action, TPROXY_RULE_DIRECT);
	assert_string_equal(parsed.rules[1].name, "databases");
	assert_int_equal(list_of(1, PARSED_PORT)->n_items, 2);
	assert_int_equal(list_of(1, PARSED_PORT)->items[1].number_last, 6379);
	assert_int_equal(list_of(1, PARSED_TO)->items[0].type, PARSED_SET);

	assert_int_equal(list_of(2, PARSED_UID)->items[0].number_first, 1000);
	assert_int_equal(list_of(2, PARSED_UID)->items[0].number_last, 1999);
	assert_string_equal(list_of(2, PARSED_COMM)->items[0].word, "git");

	assert_true(list_of(3, PARSED_TO)->any);
	assert_int_equal(list_of(3, PARSED_CGROUP)->items[0].type, PARSED_CGROUP_PATH);

	assert_int_equal(parsed.rules[4].protocol, IPPROTO_UDP);
	assert_int_equal(parsed.rules[4].error, ECONNREFUSED);

	assert_int_equal(parsed.rules[5].at.line, 8);
	assert_int_equal(parsed.rules[5].error, ETIMEDOUT);
	assert_int_equal(list_of(5, PARSED_TO)->n_items, 2);
	assert_int_equal(list_of(5, PARSED_TO)->items[1].type, PARSED_HOST);
	assert_int_equal(parsed.rules[5].n_unless, 2);
	assert_int_equal(parsed.rules[5].unless[1].lists[PARSED_GID].n_items, 2);
	assert_string_equal(
		parsed.rules[5].text,
		"refuse ETIMEDOUT to @bad, example.org unless port 80 unless gid adm, 5");

	assert_int_equal(parsed.by_default.action, TPROXY_RULE_OBSERVE);
	assert_int_equal(messages.n_notes, 0);
}

/* To see it fail: take the word anywhere in the rule, or keep it with another action. */
static void test_connect_words(void **state)
{
	must_parse("redirect honest\n"
		   "redirect eager via honest port 80\n"
		   "redirect via eager port 81\n"
		   "default redirect honest via a");
	assert_int_equal(parsed.rules[0].flags, TPROXY_RULE_HONEST);
	assert_int_equal(parsed.rules[1].flags, TPROXY_RULE_EAGER);
	assert_string_equal(parsed.rules[1].upstream, "honest");
	assert_string_equal(parsed.rules[1].text, "redirect eager via honest port 80");
	assert_int_equal(parsed.rules[2].flags, 0);
	assert_int_equal(parsed.by_default.flags, TPROXY_RULE_HONEST);
	assert_string_equal(parsed.by_default.upstream, "a");
	finish(NULL);
	must_parse("default redirect eager");
	assert_int_equal(parsed.by_default.flags, TPROXY_RULE_EAGER);
}

static void test_small(void **state)
{
	static const char *const texts[] = {
		"",
		"\n",
		"# nothing",
		"\xef\xbb\xbf# with a byte order mark\n",
		"\\\n\\\n",
		" \t\r\n",
		"direct",
		"refuse EPERM\n",
		"default refuse",
		"redirect tcp",
		"direct port 1-65535",
		"direct uid 0,4294967294",
		"direct to 0.0.0.0/0,::/0,::1",
		"direct to \"10.0.0.1\"",
		"direct to 10.0.0.1-10.0.0.9, fe80::1-fe80::2",
		"direct to my-host.example,9.example",
		"direct cgroup name:*, name:a*, name:*.service, name:a",
		"direct cgroup /",
		"direct command \"Web Content\", a-name-that-is-longer-than-15-bytes",
		"direct cgroup \"/a b,c#d=e\"",
		"direct cgroup /dev\\x2dmapper.slice",
		"set a file x\ndirect to @a",
		"direct \\\n\\\n port \\  \n 80",
		"direct port 80\\",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		must_parse(texts[i]);
		assert_int_equal(messages.n_notes, 0);
		finish(NULL);
	}
}

/* Text, where its error is, and a part of the message. */
static const struct {
	const char *text;
	unsigned int line, column;
	const char *message;
} wrong[] = {
	{ "redirct to any", 1, 1,
	  "expected set, default, redirect, direct, observe or refuse, found "
	  "\"redirct\"" },
	{ "\n\n  direct 80", 3, 10, "expected a condition" },
	{ "direct port 80 443", 1, 16, "or a comma and one more value, found \"443\"" },
	{ "direct port", 1, 12, "expected a value, found the end of the line" },
	{ "direct port 80,", 1, 16, "expected a value, found the end of the line" },
	{ "direct port 80,\\", 1, 17, "expected a value, found the end of the line" },
	{ "direct port 80,,81", 1, 16, "found \",\"" },
	{ "direct port 0", 1, 13, "expected a port from 1 to 65535" },
	{ "direct port 9-8", 1, 13, "expected a port from 1 to 65535" },
	{ "direct port 65536", 1, 13, "expected a port from 1 to 65535" },
	{ "direct port http", 1, 13, "expected a port from 1 to 65535" },
	{ "direct uid 4294967295", 1, 12, "expected a user id" },
	{ "direct uid 1x", 1, 12, "the name of a user" },
	{ "direct gid 9-1", 1, 12, "expected a group id" },
	{ "direct uid \"\"", 1, 12, "expected a value" },
	{ "direct to 10.0.0.1/8", 1, 11, "expected the CIDR 10.0.0.0/8, or an address" },
	{ "direct to fd00::1/8", 1, 11, "expected the CIDR fd00::/8, or an address" },
	{ "direct to 10.0.0.0/33", 1, 11, "expected a prefix length up to 32" },
	{ "direct to 10.0.0.0/08", 1, 11, "expected a prefix length up to 32" },
	{ "direct to ::/129", 1, 11, "expected a prefix length up to 128" },
	{ "direct to 10.0.0.0/", 1, 11, "expected a prefix length" },
	{ "direct to 10.0.0.256", 1, 11, "expected an address" },
	{ "direct to 10.0.0.9-10.0.0.8", 1, 11, "from a lower to a higher address" },
	{ "direct to 10.0.0.9-::1", 1, 11, "from a lower to a higher address of one family" },
	{ "direct to 10.0.0.1:80", 1, 11, "a port is a condition of its own: port 443" },
	{ "direct to http://example.org/", 1, 11, "expected an address" },
	{ "direct to ::1/127", 1, 11, "expected a CIDR without bits beyond its length" },
	{ "direct to 0x7f.1", 1, 11, "expected an address" },
	{ "direct to 0x7f000001.", 1, 11, "expected an address" },
	{ "direct to example.0X1f", 1, 11, "expected an address" },
	{ "direct to a.7", 1, 11, "expected an address" },
	{ "direct command git*", 1, 16, "expected a name without '*'" },
	{ "direct to any, 10.0.0.1", 1, 14, "expected a condition" },
	{ "direct to 10.0.0.1, any", 1, 21, "expected an address" },
	{ "direct to @", 1, 11, "@ and the name of a set" },
	{ "direct to @nix", 1, 11, "found \"@nix\", which no line defines" },
	{ "direct cgroup name:", 1, 15, "expected the name of a cgroup" },
	{ "direct cgroup name:a/b", 1, 15, "expected the name of a cgroup, without '/'" },
	{ "direct cgroup name:*a*", 1, 15, "at most one '*'" },
	{ "direct port 80 port 81", 1, 16, "expected \"port\" once" },
	{ "direct udp", 1, 8, "expected \"udp\" with refuse only" },
	{ "refuse udp tcp", 1, 12, "expected one protocol" },
	{ "refuse port 80 unless udp", 1, 23, "expected one protocol, before \"unless\"" },
	{ "refuse EFOO", 1, 8, "expected ECONNREFUSED, EACCES, " },
	{ "refuse port 80 EACCES", 1, 16, "expected the errno directly after \"refuse\"" },
	{ "direct EACCES", 1, 8, "expected a condition" },
	{ "direct unless", 1, 14, "expected a condition after \"unless\"" },
	{ "direct unless unless uid 1", 1, 15, "expected a condition after \"unless\"" },
	{ "direct unless to any", 1, 21, "other than \"to any\"" },
	{ "direct via squid", 1, 8, "expected \"via\" with redirect only" },
	{ "direct via direct", 1, 8, "expected \"via\" with redirect only" },
	{ "refuse EACCES port 80 via squid", 1, 23, "expected \"via\" with redirect only" },
	{ "refuse udp via squid", 1, 12, "expected \"via\" with redirect only" },
	{ "observe via squid", 1, 9, "expected \"via\" with redirect only" },
	{ "redirect via", 1, 13, "expected the name of an upstream" },
	{ "redirect via, squid", 1, 13, "expected the name of an upstream" },
	{ "redirect via squid, corp", 1, 19, "found \",\"" },
	{ "redirect via a.b port 80", 1, 14, "of letters, digits and \"_-\", at most 31" },
	{ "redirect via abcdefghijabcdefghijabcdefghijab", 1, 14, "at most 31" },
	{ "redirect via \"\"", 1, 14, "expected the name of an upstream" },
	{ "redirect via a port 80 via b", 1, 24, "expected one \"via\"" },
	{ "redirect unless uid 0 via a", 1, 23, "expected \"via\" before \"unless\"" },
	{ "default refuse via squid", 1, 16, "expected \"via\" with redirect only" },
	{ "default direct via squid", 1, 16, "expected \"via\" with redirect only" },
	{ "default redirect via", 1, 21, "expected the name of an upstream" },
	{ "default redirect via a via b", 1, 24, "a default has no conditions" },
	{ "redirect honest eager", 1, 17, "expected \"honest\" or \"eager\", one of them" },
	{ "redirect port 80 honest", 1, 18, "directly after \"redirect\"" },
	{ "redirect via a eager", 1, 16, "directly after \"redirect\"" },
	{ "direct honest", 1, 8, "directly after \"redirect\"" },
	{ "refuse EACCES eager", 1, 15, "directly after \"redirect\"" },
	{ "redirect honestly", 1, 10, "expected a condition" },
	{ "default direct honest", 1, 16, "directly after \"redirect\"" },
	{ "default redirect via a honest", 1, 24, "directly after \"redirect\"" },
	{ "default redirect eager honest", 1, 24, "directly after \"redirect\"" },
	{ "direct name", 1, 12, "expected the name of a rule" },
	{ "direct name a/b", 1, 13, "expected the name of a rule" },
	{ "direct name abcdefghijabcdefghijabcdefghijab", 1, 13, "at most 31" },
	{ "direct name a name b", 1, 15, "expected one name" },
	{ "direct name a\ndirect port 1 name a", 2, 15, "the rule in line 1 is \"a\"" },
	{ "default", 1, 8, "expected redirect, direct, observe or refuse, found the end" },
	{ "default direct port 80", 1, 16, "a default has no conditions" },
	{ "default direct\ndefault direct", 2, 1, "line 1 has it" },
	{ "set", 1, 4, "expected the name of a set" },
	{ "set a", 1, 6, "expected \"=\" and addresses, or \"file\" and a path" },
	{ "set a =", 1, 8, "expected an address" },
	{ "set a = 10.0.0.1 10.0.0.2", 1, 18, "expected a comma" },
	{ "set a = @b", 1, 9, "a rule may list several" },
	{ "set a file", 1, 11, "expected the path of a list file" },
	{ "set a file x y", 1, 14, "expected the end of the line" },
	{ "set a = ::1\nset a = ::2", 2, 5, "line 1 has set a" },
	{ "direct command \"git", 1, 16, "expected a closing quote, found the end of the line" },
	{ "direct command \"g\001t\"", 1, 18, "expected printable text, found \"\\x01\"" },
	{ "direct \002", 1, 8, "expected printable text" },
	{ "direct command \303\274ber port x", 1, 26, "expected a port" },
	{ "direct port 80 \\\n  uid 1 \\\n  to 1.2.3.4/40", 3, 6, "expected a prefix length" },
};

static void test_errors(void **state)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		const struct rules_message *m = &messages.errors[0];

		assert_int_equal(parse_text(wrong[i].text, strlen(wrong[i].text)), -EINVAL);
		if (messages.n_errors != 1 || m->at.line != wrong[i].line ||
		    m->at.column != wrong[i].column || !strstr(m->text, wrong[i].message)) {
			rules_messages_print(&messages, stderr);
			fail_msg("wrong[%zu]", i);
		}
		finish(NULL);
	}
}

/* One error a statement, all statements, the first twenty with their text. */
static void test_many_errors(void **state)
{
	char text[4096] = "";
	size_t i;

	for (i = 0; i < 30; i++)
		strcat(text, "direct port x uid -- to 1.2.3.4/77\n");
	assert_int_equal(parse_text(text, strlen(text)), -EINVAL);
	assert_int_equal(messages.n_errors, 30);
	assert_int_equal(messages.errors[RULES_MESSAGES_MAX - 1].at.line, RULES_MESSAGES_MAX);
	assert_string_equal(messages.errors[1].source, "direct port x uid -- to 1.2.3.4/77");
	assert_string_equal(messages.errors[1].caret, "            ^");
}

/* The excerpt of a long line, and of one with bytes that are shown escaped. */
static void test_excerpt(void **state)
{
	char text[2048];

	memset(text, 'x', sizeof(text));
	memcpy(text, "direct command ", 15);
	memcpy(text + 1000, " port 0 ", 8);
	assert_int_equal(parse_text(text, sizeof(text)), -EINVAL);
	assert_int_equal(messages.errors[0].at.column, 1007);
	assert_true(strlen(messages.errors[0].source) < 200);
	assert_int_equal(messages.errors[0].source[strlen(messages.errors[0].caret) - 1], '0');
	finish(NULL);
	assert_int_equal(parse_text("direct\t\001", 8), -EINVAL);
	assert_string_equal(messages.errors[0].source, "direct \\x01");
	assert_string_equal(messages.errors[0].caret, "       ^^^^");
	finish(NULL);
	/* A NUL ends neither the file nor the excerpt's carets. */
	assert_int_equal(parse_text("direct \0 port\ndirect", 20), -EINVAL);
	assert_int_equal(messages.errors[0].at.column, 8);
	assert_string_equal(messages.errors[0].caret, "       ^");
	assert_string_equal(messages.errors[0].text, "expected printable text, found a NUL byte");
	assert_int_equal(parsed.n_rules, 2);
}

static void test_limits(void **state)
{
	static char text[32768];
	size_t i, len = 0;

	for (i = 0; i <= TPROXY_RULES_MAX; i++)
		len += (size_t)sprintf(text + len, "direct port %zu\n", i + 1);
	assert_int_equal(parse_text(text, len), -EINVAL);
	assert_int_equal(messages.errors[0].at.line, TPROXY_RULES_MAX + 1);
	assert_non_null(strstr(messages.errors[0].text, "at most 256 rules"));
	finish(NULL);
	for (i = 0, len = 0; i <= TPROXY_SETS_MAX; i++)
		len += (size_t)sprintf(text + len, "set s%zu = 10.0.0.1\n", i);
	assert_int_equal(parse_text(text, len), -EINVAL);
	assert_non_null(strstr(messages.errors[0].text, "at most 256 sets"));
}

static void test_notes(void **state)
{
	must_parse("set a = ::1\ndirect port 80\ndirect  port 80 # again\n");
	assert_int_equal(messages.n_notes, 2);
	assert_int_equal(messages.notes[0].at.line, 1);
	assert_string_equal(messages.notes[0].text, "no rule has set a");
	assert_int_equal(messages.notes[1].at.line, 3);
	assert_non_null(strstr(messages.notes[1].text, "line 2 is the same"));
}

/* The text is the same whatever the layout, and has the same hash. */
static void test_text(void **state)
{
	static const char *const layouts[] = {
		"direct port 80, 443 name \"w\"",
		"direct   port 80,443\tname \"w\"  # comment",
		"direct port 80 , \\\n 443 name \"w\"\r",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(layouts); i++) {
		_cleanup_free_ char *text = text_of_statement(layouts[i], strlen(layouts[i]));

		assert_string_equal(text, layouts[0]);
		assert_true(text_hash(text) == text_hash(layouts[0]));
	}
	assert_true(text_hash("a") != text_hash("b"));
	/* FNV-1a of "a", as published. */
	assert_true(text_hash("a") == UINT64_C(0xaf63dc4c8601ec8c));
}

/* Returns the prefixes of a text, with blanks between them, or its error's number. */
static char *prefixes_of(const char *text, char *buf, size_t size)
{
	struct prefixes prefixes = {};
	enum prefix_result result = prefixes_parse(&prefixes, text, strlen(text), false);
	size_t i, used = 0;

	*buf = '\0';
	if (result != PREFIX_OK)
		snprintf(buf, size, "error %d", result);
	for (i = 0; i < prefixes.n; i++) {
		char one[PREFIX_FORMAT_LEN];

		used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? " " : "",
					 prefix_format(&prefixes.list[i], one, sizeof(one)));
	}
	prefixes_finish(&prefixes);
	return buf;
}

static void test_ranges(void **state)
{
	static const struct {
		const char *text, *prefixes;
	} cases[] = {
		{ "10.0.0.1-10.0.0.1", "10.0.0.1" },
		{ "10.0.0.0-10.0.0.255", "10.0.0.0/24" },
		{ "10.0.0.1-10.0.0.6", "10.0.0.1 10.0.0.2/31 10.0.0.4/31 10.0.0.6" },
		{ "0.0.0.0-255.255.255.255", "0.0.0.0/0" },
		{ "0.0.0.0-128.0.0.0", "0.0.0.0/1 128.0.0.0" },
		{ "255.255.255.254-255.255.255.255", "255.255.255.254/31" },
		{ "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0" },
		{ "fd00::1-fd00::2", "fd00::1 fd00::2" },
		{ "10.0.0.0/0", "error 4" },
		{ "0.0.0.0/0", "0.0.0.0/0" },
		{ "::ffff:10.0.0.0/104", "10.0.0.0/8" },
		/* Both addresses of ::/127 are loopback ones. */
		{ "::/127", ":: ::1" },
		{ "::-::1", ":: ::1" },
		/* A range with other addresses has no loopback ones, as a CIDR. */
		{ "::-::3", "::/126" },
		{ "::-::2", "::2" },
		{ "::1-::2", "::2" },
		{ "126.0.0.0-127.0.0.255", "126.0.0.0/8" },
		{ "0.0.0.0-0.0.0.2", "0.0.0.0/31 0.0.0.2" },
		{ "127.0.0.1-127.0.0.3", "127.0.0.1 127.0.0.2/31" },
		{ "127.0.0.0-127.255.255.255", "127.0.0.0/8" },
		/* A range of IPv6 addresses has no IPv4 ones. */
		{ "::fffe:ffff:ffff-::1:0:0:0", "::fffe:ffff:ffff ::1:0:0:0" },
		{ "::fffe:0:0-::ffff:c000:201", "error 5" },
		{ "::ffff:c000:201-::1:0:0:0", "error 5" },
		{ "::ffff:192.0.2.0-::ffff:192.0.2.1", "192.0.2.0/31" },
	};
	char buf[1024];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(prefixes_of(cases[i].text, buf, sizeof(buf)),
				    cases[i].prefixes);
}

static void test_netset(void **state)
{
	static const char text[] = "\xef\xbb\xbf# a list\r\n; also a comment\n\n"
				   "192.0.2.1\r\n 198.51.100.0/24 ; SBL1\n2001:db8::/32\t# x\n"
				   "203.0.113.9/24\n127.0.0.0/8\n0.0.0.0/8\n::1\n"
				   "126.255.255.255-128.0.0.0\n192.0.2.2";
	struct source source = { "list", text, sizeof(text) - 1, &messages };
	struct prefixes prefixes = {};
	struct netset_counts counts;

	assert_int_equal(netset_read(&source, &prefixes, &counts), 0);
	assert_int_equal(messages.n_errors, 0);
	assert_int_equal(counts.n_masked, 1);
	assert_int_equal(counts.n_loopback, 2);
	/* 0.0.0.0/8 is more than loopback; the range has one address on each side of it. */
	assert_int_equal(prefixes.n, 8);
	prefixes_finish(&prefixes);
}

static void test_netset_errors(void **state)
{
	static const char text[] =
		"192.0.2.1 192.0.2.2\n  example.org # x\n1.2.3.4/33\n::1-1.2.3.4\n"
		"\0\n";
	struct source source = { "list", text, sizeof(text) - 1, &messages };
	struct prefixes prefixes = {};
	struct netset_counts counts;

	assert_int_equal(netset_read(&source, &prefixes, &counts), 0);
	assert_int_equal(messages.n_errors, 5);
	assert_int_equal(messages.errors[1].at.line, 2);
	assert_int_equal(messages.errors[1].at.column, 3);
	assert_string_equal(messages.errors[1].text, "expected an address, a CIDR or a range of "
						     "addresses, found \"example.org\"");
	assert_string_equal(messages.errors[1].caret, "  ^^^^^^^^^^^");
	assert_int_equal(messages.errors[4].at.line, 5);
	assert_string_equal(messages.errors[4].text, "expected an address, a CIDR or a range of "
						     "addresses, found a NUL byte");
	assert_int_equal(prefixes.n, 0);
	prefixes_finish(&prefixes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_file, finish),
		cmocka_unit_test_teardown(test_connect_words, finish),
		cmocka_unit_test_teardown(test_small, finish),
		cmocka_unit_test_teardown(test_errors, finish),
		cmocka_unit_test_teardown(test_many_errors, finish),
		cmocka_unit_test_teardown(test_excerpt, finish),
		cmocka_unit_test_teardown(test_limits, finish),
		cmocka_unit_test_teardown(test_notes, finish),
		cmocka_unit_test_teardown(test_text, finish),
		cmocka_unit_test_teardown(test_ranges, finish),
		cmocka_unit_test_teardown(test_netset, finish),
		cmocka_unit_test_teardown(test_netset_errors, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
