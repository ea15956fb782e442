// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests the filter of watch, top, connections and capture. */
#include "ctl/filter.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "conn_row.h"
#include "host/address.h"
#include "observed_end.h"
#include "unit.h"
#include "util.h"

static char error[OPTABLE_ERROR_LEN];

/* curl of user 1000, to 192.0.2.1:443, redirected. */
static struct conn_row make_row(void)
{
	struct conn_row row = {
		.pid = 99,
		.uid = 1000,
		.cgroup_id = 4711,
		.verdict = CONN_REDIRECTED,
		.dst = { .port = 443 },
		.comm = "curl",
	};

	address_map4(row.dst.addr, "\xc0\0\2\1");
	return row;
}

/* Returns true if the row passes a filter with this one value. */
static bool passes(int (*add)(struct conn_filter *, const char *, char[OPTABLE_ERROR_LEN]),
		   const char *value, const struct conn_row *row)
{
	struct conn_filter filter = {};

	assert_int_equal(add(&filter, value, error), 0);
	assert_false(filter_is_empty(&filter));
	return filter_matches(&filter, row);
}

static void an_empty_filter_passes_all(void **state)
{
	const struct conn_row row = make_row();
	struct conn_filter filter = {};

	assert_true(filter_is_empty(&filter));
	assert_int_equal(filter_prepare(&filter), 0);
	assert_true(filter_matches(&filter, &row));
	assert_true(filter_matches_fate(&filter, "closed"));
	filter_finish(&filter);
}

static void each_option_is_tested(void **state)
{
	static const struct {
		int (*add)(struct conn_filter *, const char *, char[OPTABLE_ERROR_LEN]);
		const char *fits, *fits_not;
	} cases[] = {
		{ filter_add_command, "curl", "cur" },
		{ filter_add_command, "cur*", "curl-*" },
		{ filter_add_command, "*", "wget" },
		{ filter_add_pid, "99", "98" },
		{ filter_add_uid, "1000", "root" },
		{ filter_add_port, "443", "44" },
		{ filter_add_port, "443-443", "444-500" },
		{ filter_add_port, "0-65535", "0-442" },
		{ filter_add_to, "192.0.2.1", "192.0.2.2" },
		{ filter_add_to, "192.0.2.0/24", "192.0.3.0/24" },
		{ filter_add_to, "0.0.0.0/0", "::/0" },
		{ filter_add_to, "192.0.2.0-192.0.2.5", "192.0.2.2-192.0.2.5" },
		{ filter_add_verdict, "redirected", "direct" },
	};
	const struct conn_row row = make_row();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(passes(cases[i].add, cases[i].fits, &row));
		assert_false(passes(cases[i].add, cases[i].fits_not, &row));
	}
}

static void an_ipv6_destination(void **state)
{
	struct conn_row row = make_row();

	memcpy(row.dst.addr, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	assert_true(passes(filter_add_to, "2001:db8::/32", &row));
	assert_true(passes(filter_add_to, "::/0", &row));
	assert_false(passes(filter_add_to, "0.0.0.0/0", &row));
}

static void values_are_alternatives_and_options_add_up(void **state)
{
	const struct conn_row row = make_row();
	struct conn_filter filter = {};

	assert_int_equal(filter_add_port(&filter, "80", error), 0);
	assert_false(filter_matches(&filter, &row));
	assert_int_equal(filter_add_port(&filter, "443", error), 0);
	assert_true(filter_matches(&filter, &row));
	assert_int_equal(filter_add_verdict(&filter, "observed", error), 0);
	assert_false(filter_matches(&filter, &row));
	assert_int_equal(filter_add_verdict(&filter, "redirected", error), 0);
	assert_true(filter_matches(&filter, &row));
}

static void wrong_values_are_refused(void **state)
{
	struct conn_filter filter = {};
	size_t i;

	assert_int_equal(filter_add_command(&filter, "", error), -EINVAL);
	assert_int_equal(filter_add_command(&filter, "0123456789abcdef", error), -EINVAL);
	assert_int_equal(filter_add_command(&filter, "0123456789abcdef*", error), -EINVAL);
	assert_int_equal(filter_add_pid(&filter, "0", error), -EINVAL);
	assert_int_equal(filter_add_uid(&filter, "no such user", error), -EINVAL);
	assert_int_equal(filter_add_cgroup(&filter, "", error), -EINVAL);
	for (i = 0; i < 9; i++)
		assert_int_equal(
			filter_add_port(&filter,
					(const char *[]){ "", "-", "1-", "-1", "2-1", "65536",
							  "1-65536", "12345678-1", "1-2-3" }[i],
					error),
			-EINVAL);
	assert_int_equal(filter_add_to(&filter, "192.0.2.1/24", error), -EINVAL);
	assert_int_equal(filter_add_to(&filter, "192.0.2.1/33", error), -EINVAL);
	assert_int_equal(filter_add_to(&filter, "example.org", error), -EINVAL);
	assert_int_equal(filter_add_verdict(&filter, "redirect", error), -EINVAL);
	assert_int_equal(filter_add_fate(&filter, "close", error), -EINVAL);
	assert_true(filter_is_empty(&filter));
	for (i = 0; i < FILTER_VALUES_MAX; i++)
		assert_int_equal(filter_add_pid(&filter, "1", error), 0);
	assert_int_equal(filter_add_pid(&filter, "1", error), -EINVAL);
}

/* Every word that the log has for an end is a value of --fate. */
static void fates_are_the_words_of_the_log(void **state)
{
	static const struct {
		int state, error;
	} ends[] = {
		{ TCP_ESTABLISHED, 0 },		{ TCP_ESTABLISHED, ECONNRESET },
		{ TCP_ESTABLISHED, ETIMEDOUT }, { TCP_ESTABLISHED, ECONNABORTED },
		{ TCP_SYN_SENT, ECONNREFUSED }, { TCP_SYN_SENT, 0 },
		{ TPROXY_EVENT_NOT_SENT, 0 },	{ TPROXY_EVENT_UNSEEN, 0 },
	};
	struct conn_filter filter, others;
	size_t i, k;

	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		const struct tproxy_event event = { .state = (__u8)ends[i].state,
						    .error = (__u16)ends[i].error };
		const char *fate = observed_end(&event).reason;

		filter = others = (struct conn_filter){};
		assert_int_equal(filter_add_fate(&filter, fate, error), 0);
		assert_true(filter_matches_fate(&filter, fate));
		for (k = 0; k < 3; k++)
			filter_add_fate(&others,
					(const char *[]){ "closed", "refused", "aborted" }[k],
					error);
		assert_int_equal(filter_matches_fate(&others, fate), strcmp(fate, "aborted") == 0);
	}
	filter = (struct conn_filter){};
	assert_int_equal(filter_add_fate(&filter, "reset-by-server", error), 0);
	assert_true(filter_matches_fate(&filter, "reset by server"));
	assert_int_equal(filter_add_fate(&filter, "failed", error), 0);
	assert_true(filter_matches_fate(&filter, "destination failed"));
	assert_true(filter_matches_fate(&filter, "refused"));
	assert_false(filter_matches_fate(&filter, "closed"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_filter_passes_all),
		cmocka_unit_test(each_option_is_tested),
		cmocka_unit_test(an_ipv6_destination),
		cmocka_unit_test(values_are_alternatives_and_options_add_up),
		cmocka_unit_test(wrong_values_are_refused),
		cmocka_unit_test(fates_are_the_words_of_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
