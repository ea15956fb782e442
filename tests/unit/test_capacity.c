// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/relay/capacity.c: workers and connections that fit the descriptors. */
#include "relay/capacity.h"

#include <errno.h>

#include "options.h"
#include "unit.h"

static int fit(struct options *o, uint32_t nofile, uint32_t workers, bool given)
{
	*o = (struct options){ .workers = workers, .workers_given = given };
	return capacity_fit(nofile, o);
}

/* With enough descriptors nothing changes, given or not. */
static void test_enough(void **state)
{
	struct options o;

	assert_int_equal(fit(&o, 1024, 2, false), 0);
	assert_int_equal(o.workers, 2);
	assert_int_equal(fit(&o, 20000, 64, true), 0);
	assert_int_equal(o.workers, 64);
}

/*
 * 64 CPUs and 1,024 descriptors: workers take no more than half of them. To see it fail: compare
 * nofile in place of nofile / 2 in capacity_fit().
 */
static void test_fewer_workers(void **state)
{
	struct options o;

	assert_int_equal(fit(&o, 1024, 64, false), 0);
	assert_in_range(o.workers, 16, 22);
	assert_in_range(capacity_sessions(1024, /* tls= */ false, &o), 256, 300);
}

/* A number that was given is not lowered. To see it fail: ignore workers_given. */
static void test_given(void **state)
{
	struct options o;

	assert_int_equal(fit(&o, 1024, 64, true), -EMFILE);
	assert_int_equal(o.workers, 64);
}

/*
 * A relay that starts can serve a few connections, with TLS too. To see it fail: leave FDS_LEAST
 * out of least_fds().
 */
static void test_least(void **state)
{
	struct options o;
	uint32_t nofile;

	for (nofile = 90; fit(&o, nofile, 2, false) < 0; nofile++)
		assert_in_range(nofile, 1, 200);
	assert_int_equal(o.workers, 1);
	assert_in_range(capacity_sessions(nofile, /* tls= */ true, &o), 4, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_enough),
		cmocka_unit_test(test_fewer_workers),
		cmocka_unit_test(test_given),
		cmocka_unit_test(test_least),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
