// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The parser of the list of connections (common/conn_row.c): every column, and lines that are none;
 * and the rows that come from the maps. To see it fail: take a column for its neighbour, or leave
 * out a test of a form.
 */
#include "conn_row.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "unit.h"
#include "util.h"

#define LINE                                                                                       \
	"1a2b 4242 1000 8814277 187890 redirected established 127.0.0.1:47090 198.51.100.2:443 "   \
	"5000 700 1234 98765 77 web-1 app.service a\\x20b\\x5c"

static void reads_each_column(void **state)
{
	static const uint8_t src[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 };
	struct conn_row row;
	char id[CONN_ROW_ID_LEN];

	assert_int_equal(conn_row_parse(LINE, &row), 0);
	assert_int_equal(row.id, 0x1a2b);
	assert_string_equal(conn_row_id(row.id, id), "1a2b");
	assert_int_equal(row.pid, 4242);
	assert_int_equal(row.uid, 1000);
	assert_int_equal(row.cgroup_id, 8814277);
	assert_int_equal(row.netns_cookie, 187890);
	assert_int_equal(row.verdict, CONN_REDIRECTED);
	assert_int_equal(row.state, TCP_ESTABLISHED);
	assert_true(row.live);
	assert_memory_equal(row.src.addr, src, sizeof(src));
	assert_int_equal(row.src.port, 47090);
	assert_int_equal(row.dst.port, 443);
	assert_int_equal(row.tx_bytes, 5000);
	assert_int_equal(row.rx_bytes, 700);
	assert_int_equal(row.rtt_us, 1234);
	assert_int_equal(row.age_ms, 98765);
	assert_int_equal(row.relay_pid, 77);
	assert_string_equal(row.rule, "web-1");
	assert_string_equal(row.cgroup, "app.service");
	assert_string_equal(row.comm, "a b\\");
}

static void reads_dashes_and_ipv6(void **state)
{
	static const uint8_t dst[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 2 };
	struct conn_row row;

	assert_int_equal(conn_row_parse("ffffffffffffffff 1 0 1 1 observed syn-sent "
					"[2001:0db8:0000:0000:0000:0000:0000:0001]:1 "
					"[2001:0db8:0000:0000:0000:0000:0000:0002]:65535 "
					"0 18446744073709551615 - 0 - - - \\x00",
					&row),
			 0);
	assert_int_equal(row.id, UINT64_MAX);
	assert_int_equal(row.verdict, CONN_OBSERVED);
	assert_int_equal(row.state, TCP_SYN_SENT);
	assert_memory_equal(row.dst.addr, dst, sizeof(dst));
	assert_int_equal(row.dst.port, 65535);
	assert_int_equal(row.rx_bytes, UINT64_MAX);
	assert_int_equal(row.rtt_us, 0);
	assert_int_equal(row.relay_pid, 0);
	assert_string_equal(row.rule, "");
	assert_string_equal(row.cgroup, "");
	assert_string_equal(row.comm, "");
}

/* Replaces the first occurrence of @from in LINE by @to. */
static char *changed(const char *from, const char *to, char buf[CONN_ROW_LINE_MAX])
{
	const char *at = strstr(LINE, from);

	assert_non_null(at);
	snprintf(buf, CONN_ROW_LINE_MAX, "%.*s%s%s", (int)(at - LINE), LINE, to, at + strlen(from));
	return buf;
}

static void refuses_other_forms(void **state)
{
	static const struct {
		const char *from, *to;
	} cases[] = {
		{ "1a2b", "1A2B" },
		{ "1a2b", "0x1a" },
		{ "1a2b", "01a2b" },
		{ "1a2b", "" },
		{ "1a2b", "11a2b1a2b1a2b1a2b" },
		{ "4242", "-1" },
		{ "4242", "+1" },
		{ "4242", "4294967296" },
		{ "redirected", "Redirected" },
		{ "established", "open" },
		{ "127.0.0.1:47090", "127.0.0.1" },
		{ "127.0.0.1:47090", "127.0.0.1:65536" },
		{ "127.0.0.1:47090", "127.1:1" },
		{ "127.0.0.1:47090", "[::1:1" },
		{ "127.0.0.1:47090", "[]:1" },
		{ "127.0.0.1:47090", "::1:1" },
		{ "127.0.0.1:47090", "[127.0.0.1]:1" },
		{ "5000", "5000.5" },
		{ "5000", "18446744073709551616" },
		{ "web-1", "a-name-of-more-than-thirty-two-ch" },
		{ "web-1", "" },
		{ "web-1", "a b" },
		{ "a\\x20b\\x5c", "a\\x2" },
		{ "a\\x20b\\x5c", "a\\x2G" },
		{ "a\\x20b\\x5c", "a\\n" },
		{ "a\\x20b\\x5c", "a\\" },
		{ "a\\x20b\\x5c", "a\tb" },
		{ "a\\x20b\\x5c", "a\x7f" },
		{ "a\\x20b\\x5c", "a\xff" },
		{ "a\\x20b\\x5c", "" },
		{ "a\\x20b\\x5c", "seventeen-letters" },
		{ "a\\x20b\\x5c", "a b" },
		{ "a\\x20b\\x5c", "a " },
	};
	const struct conn_row untouched = { .id = 7 };
	char line[CONN_ROW_LINE_MAX];
	struct conn_row row = untouched;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (conn_row_parse(changed(cases[i].from, cases[i].to, line), &row) != -EINVAL)
			fail_msg("'%s' was taken", line);
		assert_memory_equal(&row, &untouched, sizeof(row));
	}
	assert_int_equal(conn_row_parse("", &row), -EINVAL);
	assert_int_equal(conn_row_parse(CONN_ROW_HEADER, &row), -EINVAL);
}

static void refuses_long_lines(void **state)
{
	char line[CONN_ROW_LINE_MAX + 16];
	struct conn_row row;

	memset(line, 'a', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	assert_int_equal(conn_row_parse(line, &row), -EINVAL);
}

/* A full name of 16 bytes has no NUL in the kernel; 63 bytes of a cgroup's name are all escaped. */
static void takes_the_longest_names(void **state)
{
	char line[CONN_ROW_LINE_MAX], cgroup[4 * 63 + 1] = "", comm[4 * 16 + 1] = "", form[64];
	struct conn_row row;
	size_t i;

	for (i = 0; i < 63; i++)
		strcat(cgroup, "\\xff");
	for (i = 0; i < 16; i++)
		strcat(comm, "\\x0a");
	snprintf(form, sizeof(form), "%s", "a-name-of-thirty-two-characters-");
	snprintf(line, sizeof(line),
		 "ffffffffffffffff 4294967295 4294967295 18446744073709551615 18446744073709551615 "
		 "redirected established [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 "
		 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 18446744073709551615 "
		 "18446744073709551615 4294967295 18446744073709551615 4294967295 %s %s %s",
		 form, cgroup, comm);
	assert_int_equal(conn_row_parse(line, &row), 0);
	assert_int_equal(strlen(row.cgroup), 63);
	assert_int_equal(strlen(row.comm), 16);
	assert_string_equal(row.rule, form);
}

static void makes_rows_from_the_maps(void **state)
{
	static const char comm[] = "sixteen-letters!";
	struct tproxy_conn conn = {
		.started_ns = 5000000,
		.netns_cookie = 2,
		.cookie = 3,
		.cgroup_id = 4,
		.pid = 5,
		.uid = 6,
		.src = { .addr = { 7 }, .port = 8 },
		.dst = { .addr = { 9 }, .port = 10 },
	};
	struct tproxy_observed observed = {
		.started_ns = conn.started_ns,
		.netns_cookie = conn.netns_cookie,
		.cgroup_id = conn.cgroup_id,
		.pid = conn.pid,
		.uid = conn.uid,
		.src = conn.src,
		.dst = conn.dst,
	};
	struct conn_row rows[2];
	size_t i;

	/* The name fills the member, so no null byte ends it. */
	memcpy(conn.comm, comm, sizeof(conn.comm));
	memcpy(observed.comm, comm, sizeof(observed.comm));
	conn_row_of_redirected(1, &conn, 12000000, &rows[0]);
	conn_row_of_observed(1, &observed, 12000000, &rows[1]);
	assert_int_equal(rows[0].verdict, CONN_REDIRECTED);
	assert_int_equal(rows[1].verdict, CONN_OBSERVED);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(rows[i].id, 1);
		assert_int_equal(rows[i].netns_cookie, 2);
		assert_int_equal(rows[i].cgroup_id, 4);
		assert_int_equal(rows[i].pid, 5);
		assert_int_equal(rows[i].uid, 6);
		assert_int_equal(rows[i].age_ms, 7);
		assert_int_equal(rows[i].started_ns, 5000000);
		assert_memory_equal(&rows[i].src, &conn.src, sizeof(conn.src));
		assert_memory_equal(&rows[i].dst, &conn.dst, sizeof(conn.dst));
		assert_string_equal(rows[i].comm, comm);
		assert_false(rows[i].live);
		assert_int_equal(rows[i].relay_pid, 0);
		assert_string_equal(rows[i].rule, "");
	}
	/* The connection began after the time was read. */
	conn_row_of_redirected(1, &conn, 4000000, &rows[0]);
	assert_int_equal(rows[0].age_ms, 0);
}

static void names_verdicts_and_states(void **state)
{
	enum conn_verdict verdict;
	int i;

	for (i = 0; i < _CONN_VERDICT_MAX; i++) {
		assert_int_equal(
			conn_verdict_parse(conn_verdict_name((enum conn_verdict)i), &verdict), 0);
		assert_int_equal(verdict, i);
	}
	assert_int_equal(conn_verdict_parse("?", &verdict), -EINVAL);
	assert_string_equal(conn_verdict_name(_CONN_VERDICT_MAX), "?");
	assert_string_equal(conn_state_name(0), "-");
	assert_string_equal(conn_state_name(TCP_FIN_WAIT1), "fin-wait-1");
	assert_string_equal(conn_state_name(255), "-");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_each_column),
		cmocka_unit_test(reads_dashes_and_ipv6),
		cmocka_unit_test(refuses_other_forms),
		cmocka_unit_test(refuses_long_lines),
		cmocka_unit_test(takes_the_longest_names),
		cmocka_unit_test(makes_rows_from_the_maps),
		cmocka_unit_test(names_verdicts_and_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
