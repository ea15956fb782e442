// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests parts of tproxyctl: options, groups of counters, escaped and quoted text, addresses,
 * listeners.
 */
#include "ctl/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl/options.h"
#include "escape.h"
#include "host/address.h"
#include "host/listeners.h"
#include "quote.h"
#include "state/counters.h"
#include "unit.h"
#include "util.h"

static const struct ctl_usage plain = { CTL_STATUS, "", "" };
static const struct ctl_usage examining = { CTL_DOCTOR, "", "" };
static const struct ctl_usage with_process = { CTL_REGISTER, "", "" };
static const struct ctl_usage explaining = { CTL_EXPLAIN, "", "" };
static const struct ctl_usage with_rules = { CTL_RULES, "", "" };
static const struct ctl_usage running = { CTL_RUN, "", "" };

#define parse(u, o, ...) parse_args(u, o, (char *[]){ "command", ##__VA_ARGS__, NULL })

static int parse_args(const struct ctl_usage *usage, struct ctl_options *o, char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return ctl_options_parse(argc, argv, usage, o);
}

static void test_options(void **state)
{
	struct ctl_options o;

	assert_int_equal(parse(&plain, &o), 0);
	assert_string_equal(o.pin_dir, "/sys/fs/bpf/tproxy");
	assert_string_equal(o.cgroup, "");
	assert_false(o.json);

	assert_int_equal(parse(&examining, &o, "--json", "-p", "/d", "--cgroup=/c"), 0);
	assert_string_equal(o.pin_dir, "/d");
	assert_string_equal(o.cgroup, "/c");
	assert_true(o.json);
	assert_false(o.strict);
	assert_int_equal(parse(&examining, &o, "--strict"), 0);
	assert_true(o.strict);
}

static void test_option_errors(void **state)
{
	struct ctl_options o = { .pin_dir = "as before" };

	assert_int_equal(parse(&plain, &o, "-c", "/c"), -EINVAL);
	assert_int_equal(parse(&plain, &o, "--strict"), -EINVAL);
	assert_int_equal(parse(&examining, &o, "--strict=yes"), -EINVAL);
	assert_int_equal(parse(&plain, &o, "--cgroup", "/c"), -EINVAL);
	assert_int_equal(parse(&examining, &o, "--cgroup", ""), -EINVAL);
	assert_int_equal(parse(&plain, &o, "-p", ""), -EINVAL);
	assert_int_equal(parse(&plain, &o, "-p"), -EINVAL);
	assert_int_equal(parse(&plain, &o, "--json=yes"), -EINVAL);
	assert_int_equal(parse(&plain, &o, "--version"), -EINVAL);
	assert_int_equal(parse(&plain, &o, "stray"), -EINVAL);
	assert_string_equal(o.pin_dir, "as before");
}

static void test_process_options(void **state)
{
	struct ctl_options o;

	assert_int_equal(parse(&with_process, &o, "--pid", "4194304"), 0);
	assert_int_equal(o.pid, 4194304);
	assert_int_equal(o.n_ports, 0);
	assert_false(o.remove);
	assert_int_equal(parse(&with_process, &o, "--port=3128", "--pid=7", "--port", "65535",
			       "--port", "3128"),
			 0);
	assert_int_equal(o.pid, 7);
	assert_int_equal(o.n_ports, 2);
	assert_int_equal(o.ports[0], 3128);
	assert_int_equal(o.ports[1], 65535);
	assert_int_equal(parse(&with_process, &o, "--remove", "--pid", "1"), 0);
	assert_true(o.remove);
}

static void test_process_option_errors(void **state)
{
	struct ctl_options o = { .pin_dir = "as before" };

	assert_int_equal(parse(&with_process, &o), -EINVAL);
	assert_int_equal(parse(&with_process, &o, "--port", "80"), -EINVAL);
	assert_int_equal(parse(&with_process, &o, "--pid", "0"), -EINVAL);
	assert_int_equal(parse(&with_process, &o, "--pid", "4194305"), -EINVAL);
	assert_int_equal(parse(&with_process, &o, "--pid", "1x"), -EINVAL);
	assert_int_equal(parse(&with_process, &o, "--pid", "1", "--port", "0"), -EINVAL);
	assert_int_equal(parse(&with_process, &o, "--pid", "1", "--port", "65536"), -EINVAL);
	assert_int_equal(parse(&with_process, &o, "--pid", "1", "--remove", "--port", "1"),
			 -EINVAL);
	assert_int_equal(parse(&with_process, &o, "--pid", "1", "-c", "/c"), -EINVAL);
	assert_int_equal(parse(&examining, &o, "--pid", "1"), -EINVAL);
	assert_int_equal(parse(&plain, &o, "--remove"), -EINVAL);
	assert_string_equal(o.pin_dir, "as before");
}

static void test_rules_options(void **state)
{
	struct ctl_options o;

	assert_int_equal(parse(&with_rules, &o, "check", "f", "--json", "-v"), 0);
	assert_int_equal(o.verb, CTL_RULES_CHECK);
	assert_string_equal(o.file, "f");
	assert_true(o.json && o.verbose);
	assert_false(o.no_resolve);
	assert_int_equal(parse(&with_rules, &o, "--no-resolve", "check", "f"), 0);
	assert_true(o.no_resolve);
	assert_int_equal(parse(&with_rules, &o, "load", "--confirm", "30s", "--", "-f"), 0);
	assert_int_equal(o.verb, CTL_RULES_LOAD);
	assert_string_equal(o.file, "-f");
	assert_int_equal(o.confirm_ms, 30000);
	assert_int_equal(parse(&with_rules, &o, "stats"), 0);
	assert_int_equal(o.verb, CTL_RULES_STATS);
	assert_string_equal(o.file, "");
}

static void test_rules_option_errors(void **state)
{
	struct ctl_options o = { .pin_dir = "as before" };

	assert_int_equal(parse(&with_rules, &o), -EINVAL);
	assert_int_equal(parse(&with_rules, &o, "chec", "f"), -EINVAL);
	assert_int_equal(parse(&with_rules, &o, "check"), -EINVAL);
	assert_int_equal(parse(&with_rules, &o, "check", ""), -EINVAL);
	assert_int_equal(parse(&with_rules, &o, "check", "f", "g"), -EINVAL);
	assert_int_equal(parse(&with_rules, &o, "show", "f"), -EINVAL);
	assert_int_equal(parse(&with_rules, &o, "check", "f", "--confirm", "1s"), -EINVAL);
	assert_int_equal(parse(&with_rules, &o, "load", "f", "--no-resolve"), -EINVAL);
	assert_int_equal(parse(&with_rules, &o, "load", "f", "-v"), -EINVAL);
	assert_int_equal(parse(&plain, &o, "--no-resolve"), -EINVAL);
	assert_int_equal(parse(&running, &o, "--rules", "a", "--rules", "b", "true"), -EINVAL);
	assert_string_equal(o.pin_dir, "as before");
}

static void test_explain_options(void **state)
{
	struct ctl_options o;

	assert_int_equal(parse(&explaining, &o, "192.0.2.1:443"), 0);
	assert_int_equal(o.n_destinations, 1);
	assert_int_equal(o.destinations[0].sa.sa_family, AF_INET);
	assert_false(o.has_uid || o.has_gid);
	assert_string_equal(o.command, "");
	assert_int_equal(parse(&explaining, &o, "[::1]:0", "--pid", "7", "0.0.0.0:80"), 0);
	assert_int_equal(o.pid, 7);
	assert_int_equal(o.n_destinations, 2);
	assert_int_equal(o.destinations[0].sa.sa_family, AF_INET6);
	assert_int_equal(parse(&explaining, &o, "--uid", "0", "--gid=4294967294", "-c", "/c",
			       "--command", "fifteen-bytes-15", "1.1.1.1:1"),
			 -EINVAL);
	assert_int_equal(parse(&explaining, &o, "--uid", "0", "--gid=4294967294", "-c", "/c",
			       "--command", "fifteen-bytes15", "--", "1.1.1.1:1"),
			 0);
	assert_true(o.has_uid && o.has_gid);
	assert_int_equal(o.uid, 0);
	assert_int_equal(o.gid, 4294967294);
	assert_string_equal(o.command, "fifteen-bytes15");
	assert_string_equal(o.cgroup, "/c");
}

static void test_explain_option_errors(void **state)
{
	struct ctl_options o = { .pin_dir = "as before" };
	char *many[CTL_DESTINATIONS_MAX + 3] = { (char *)"explain" };
	size_t i;

	assert_int_equal(parse(&explaining, &o), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "192.0.2.1"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "::1:443"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "example.org:443"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "1.1.1.1:65536"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "1.1.1.1:1", "2"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "--uid", "4294967295", "1.1.1.1:1"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "--uid", "root", "1.1.1.1:1"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "--pid", "1", "--uid", "1", "1.1.1.1:1"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "--pid", "1", "-c", "/", "1.1.1.1:1"), -EINVAL);
	assert_int_equal(parse(&explaining, &o, "--port", "1", "1.1.1.1:1"), -EINVAL);
	assert_int_equal(parse(&plain, &o, "--uid", "1"), -EINVAL);
	for (i = 1; i <= CTL_DESTINATIONS_MAX + 1; i++)
		many[i] = (char *)"1.1.1.1:1";
	assert_int_equal(parse_args(&explaining, &o, many), -EINVAL);
	assert_string_equal(o.pin_dir, "as before");
	many[CTL_DESTINATIONS_MAX + 1] = NULL;
	assert_int_equal(parse_args(&explaining, &o, many), 0);
}

/* As many ports as a relay can have, then one more. */
static void test_many_ports(void **state)
{
	char *argv[TPROXY_PORTS_MAX + 4] = { "register", "--pid=1" };
	char ports[TPROXY_PORTS_MAX + 1][16];
	struct ctl_options o;
	int i;

	for (i = 0; i <= TPROXY_PORTS_MAX; i++) {
		snprintf(ports[i], sizeof(ports[i]), "--port=%d", 1000 + i);
		argv[2 + i] = ports[i];
	}
	assert_int_equal(ctl_options_parse(2 + TPROXY_PORTS_MAX, argv, &with_process, &o), 0);
	assert_int_equal(o.n_ports, TPROXY_PORTS_MAX);
	assert_int_equal(o.ports[TPROXY_PORTS_MAX - 1], 1000 + TPROXY_PORTS_MAX - 1);
	assert_int_equal(ctl_options_parse(3 + TPROXY_PORTS_MAX, argv, &with_process, &o), -EINVAL);
}

static const struct listening_socket any4 = { .ep = { .addr = { [10] = 0xff, 0xff }, .port = 80 } };
static const struct listening_socket any6 = { .ep = { .port = 80 } };
static const struct listening_socket only6 = { .ep = { .port = 80 }, .only6 = true };
static const struct listening_socket one4 = { .ep = { .addr = { [10] = 0xff, 0xff, 192, 0, 2, 1 },
						      .port = 80 } };

static void test_listeners_take(void **state)
{
	const struct tproxy_endpoint v4 = one4.ep, v6 = { .addr = { [15] = 1 }, .port = 80 };
	const struct tproxy_endpoint port = { .addr = { [15] = 1 }, .port = 81 };
	const struct tproxy_endpoint other = {
		.addr = { [10] = 0xff, 0xff, 192, 0, 2, 2 },
		.port = 80,
	};

	assert_true(listeners_takes(&any4, &v4));
	assert_false(listeners_takes(&any4, &v6));
	assert_true(listeners_takes(&any6, &v4));
	assert_true(listeners_takes(&any6, &v6));
	assert_false(listeners_takes(&only6, &v4));
	assert_true(listeners_takes(&only6, &v6));
	assert_true(listeners_takes(&one4, &v4));
	assert_false(listeners_takes(&one4, &other));
	assert_false(listeners_takes(&any6, &port));
}

/* A new counter without a group would be missing in the sums. */
static void test_every_counter_has_a_name_and_a_group(void **state)
{
	unsigned int i;

	for (i = 0; i < _TPROXY_STAT_MAX; i++) {
		assert_non_null(counters_name(i));
		assert_int_not_equal(ctl_group_of(i), CTL_GROUP_NONE);
	}
	assert_null(counters_name(_TPROXY_STAT_MAX));
	assert_int_equal(ctl_group_of(_TPROXY_STAT_MAX), CTL_GROUP_NONE);
}

static void test_escape(void **state)
{
	static const struct {
		const char *text, *escaped;
	} cases[] = {
		{ "", "" },
		{ "curl", "curl" },
		{ "a b\\x1b", "a b\\x1b" },
		{ "\x1b[31m\n\t\x7f", "\\x1b[31m\\x0a\\x09\\x7f" },
		{ "gr\xc3\xbc\xc3", "gr\\xc3\\xbc\\xc3" },
	};
	char buf[ESCAPE_LEN(16)];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(escape_text(cases[i].text, 16, buf, sizeof(buf)),
				    cases[i].escaped);
	/* Text without a NUL, as a full comm[] is; text too long for the buffer. */
	assert_string_equal(escape_text("abcdef", 3, buf, sizeof(buf)), "abc");
	assert_string_equal(escape_text("abcdef", 6, buf, 4), "abc");
	assert_string_equal(escape_text("ab\n", 3, buf, 6), "ab");
	assert_string_equal(escape_text("ab\n", 3, buf, 7), "ab\\x0a");
	memset(buf, 0x1b, 16);
	assert_int_equal(
		strlen(escape_text("\1\2\3\4\5\6\7\1\2\3\4\5\6\7\1\2", 16, buf, sizeof(buf))),
		ESCAPE_LEN(16) - 1);
}

/*
 * Passes the quoted text to a shell, and checks that the shell reads this word and executes none of
 * it.
 */
static void expect_word(const char *shell, const char *text)
{
	char quoted[SHELL_QUOTE_LEN(64)], command[512], word[128];
	FILE *pipe;

	shell_quote(text, quoted, sizeof(quoted));
	snprintf(command, sizeof(command), "%s <<'EOF'\nprintf %%s %s\nEOF\n", shell, quoted);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	word[fread(word, 1, sizeof(word) - 1, pipe)] = '\0';
	assert_int_equal(pclose(pipe), 0);
	assert_string_equal(word, text);
}

/* To see it fail: leave quotes and backslashes between the quotes unescaped. */
static void test_shell_quote(void **state)
{
	static const char *const texts[] = {
		"/a/b",	   "",	"a b\"c", "a';echo pwned;'",	"$(echo x)`echo y`",
		"a\\b\\'", "'", "\\",	  "!x*?[a]~;&|<>(){}#",
	};
	static const char *const strange[] = {
		"a\nb", "\x1b[31m7", "'\xc3;echo pwned;'", "\\'\x01'7", "gr\xc3\xbc",
	};
	char buf[SHELL_QUOTE_LEN(1)];
	const char *c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		expect_word("sh", texts[i]);
		expect_word("bash", texts[i]);
	}
	for (i = 0; i < ARRAY_SIZE(strange); i++) {
		char quoted[SHELL_QUOTE_LEN(64)];

		expect_word("bash", strange[i]);
		shell_quote(strange[i], quoted, sizeof(quoted));
		/*
		 * A shell without $'' must see one word too: no quote but the first and the last,
		 * and no backslash before the last.
		 */
		assert_ptr_equal(strchr(quoted + 2, '\''), quoted + strlen(quoted) - 1);
		for (c = quoted; *c; c++)
			assert_true(*c >= ' ' && *c < 0x7f);
	}
	assert_string_equal(shell_quote("a", buf, sizeof(buf)), "'a'");
	assert_string_equal(shell_quote("ab", buf, sizeof(buf)), "''");
}

static void test_endpoints(void **state)
{
	const struct tproxy_endpoint v4 = {
		.addr = { [10] = 0xff, [11] = 0xff, [12] = 192, 0, 2, 1 },
		.port = 80,
	};
	const struct tproxy_endpoint v6 = {
		.addr = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 },
		.port = 65535,
	};
	const struct tproxy_endpoint port0 = {
		.addr = { [10] = 0xff, [11] = 0xff, [12] = 192, 0, 2, 1 },
	};
	struct tproxy_endpoint longest = { .port = 65535 };
	const struct tproxy_endpoint none = {};
	char buf[ADDRESS_ENDPOINT_LEN], address[ADDRESS_LEN];

	assert_string_equal(address_format_endpoint(&v4, buf), "192.0.2.1:80");
	assert_string_equal(address_format(&v4, address), "192.0.2.1");
	assert_string_equal(address_format_endpoint(&v6, buf), "[2001:db8::1]:65535");
	assert_string_equal(address_format(&v6, address), "2001:db8::1");
	assert_string_equal(address_format_endpoint(&port0, buf), "192.0.2.1:0");
	assert_string_equal(address_format_endpoint(&none, buf), "[::]:0");
	memset(longest.addr, 0xee, sizeof(longest.addr));
	assert_string_equal(address_format_endpoint(&longest, buf),
			    "[eeee:eeee:eeee:eeee:eeee:eeee:eeee:eeee]:65535");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_option_errors),
		cmocka_unit_test(test_process_options),
		cmocka_unit_test(test_process_option_errors),
		cmocka_unit_test(test_rules_options),
		cmocka_unit_test(test_rules_option_errors),
		cmocka_unit_test(test_explain_options),
		cmocka_unit_test(test_explain_option_errors),
		cmocka_unit_test(test_many_ports),
		cmocka_unit_test(test_listeners_take),
		cmocka_unit_test(test_every_counter_has_a_name_and_a_group),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_shell_quote),
		cmocka_unit_test(test_endpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
