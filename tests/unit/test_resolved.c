// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests names that were added to a resolver (proxy/upstream/resolved.c): their addresses, when they
 * are asked for again, and that old addresses stay while name servers fail.
 */
#include "name_server.h"
#include "upstream/resolver_answer.h"

/* Adds a name and waits for its addresses, whose records have this TTL. */
static struct resolved *add_resolved(const char *host, uint32_t ttl_s)
{
	struct resolved *resolved;

	set_ttl(ttl_s);
	resolved = resolver_add(f.resolver, host);
	wait_until(state_of(resolved) == 0);
	return resolved;
}

/* Both families, in turn; sockets are marked. To see it fail: leave mark() out. */
static void test_added(void **state)
{
	struct resolved *resolved = resolver_add(f.resolver, "one.example.org");
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];

	wait_until(state_of(resolved) == 0);
	assert_int_equal(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX), 3);
	assert_address(&addresses[0], "[2001:db8::1]:0");
	assert_address(&addresses[1], "192.0.2.1:0");
	assert_address(&addresses[2], "192.0.2.2:0");
	assert_true(f.marked > 0);
	assert_ptr_equal(resolver_add(f.resolver, "one.example.org"), resolved);
	assert_int_equal(resolved_addresses(resolved, addresses, 1), 1);
	resolver_remove(f.resolver, resolved);
	resolver_remove(f.resolver, resolved);
}

/* The addresses of one family, while the other one is not answered. */
static void assert_settles(enum mode mode, const char *address, size_t count)
{
	const uint64_t begun_ms = monotonic_coarse_ms();
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
	struct resolved *resolved;

	f.mode = mode;
	resolved = resolver_add(f.resolver, "one.example.org");
	wait_until(state_of(resolved) == 0);
	assert_true(monotonic_coarse_ms() - begun_ms >= 40);
	assert_int_equal(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX), count);
	assert_address(&addresses[0], address);
	/* A question for both families waits. */
	ask("one.example.org");
	assert_int_equal(event_base_loop(f.base, EVLOOP_NONBLOCK), 0);
	assert_int_equal(f.answers, 0);
	f.mode = ANSWER;
	wait_until(f.answers);
	assert_int_equal(f.n, 3);
	assert_int_equal(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX), 3);
	resolver_remove(f.resolver, resolved);
}

/*
 * A name server drops the queries for AAAA: the other addresses are used soon. To see it fail:
 * leave resolved_settle() out of want_due(), or settled out of resolver_ask().
 */
static void test_aaaa_is_dropped(void **state)
{
	assert_settles(DROPS_AAAA, "192.0.2.1:0", 2);
}

/* In the end the answer of one family is the answer. To see it fail: count a failure of either. */
static void test_aaaa_is_never_answered(void **state)
{
	f.mode = DROPS_AAAA;
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.n, 2);
}

static int error_of(int inet, int inet6)
{
	const struct resolver_answer answer = {
		.parts = { [ANSWER_PART_INET].error = inet, [ANSWER_PART_INET6].error = inet6 }
	};

	return resolver_answer_error(&answer);
}

/* A server that fails has the say. To see it fail: look at one part only. */
static void test_errors(void **state)
{
	assert_int_equal(error_of(-ENOENT, -ENOENT), -ENOENT);
	assert_int_equal(error_of(-ENOENT, -ETIMEDOUT), -ETIMEDOUT);
	assert_int_equal(error_of(-ETIMEDOUT, -ENOENT), -ETIMEDOUT);
	assert_int_equal(error_of(0, 0), 0);
}

static void test_a_is_dropped(void **state)
{
	assert_settles(DROPS_A, "[2001:db8::1]:0", 1);
}

/* Old addresses of both families stay while one of them is not answered. */
static void test_old_stay_while_aaaa_is_dropped(void **state)
{
	struct resolved *resolved;
	int i;

	resolved = add_resolved("one.example.org", /* ttl_s= */ 0);
	f.address = 7;
	f.mode = DROPS_AAAA;
	f.queries = 0;
	wait_until(f.queries);
	for (i = 0; i < 8; i++) {
		usleep(10000);
		assert_true(first_of(resolved) == 1 || first_of(resolved) == 7);
	}
}

/*
 * The servers fail for one family: its old addresses stay, and the name is asked for again soon,
 * not when the TTL of the other family ends. To see it fail: leave resolver_answer_keep() out, or
 * note_half().
 */
static void test_old_family_stays(void **state)
{
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
	struct resolved *resolved = add_resolved("one.example.org", /* ttl_s= */ 0);
	f.mode = DROPS_A;
	f.address = 7;
	set_ttl(3600);
	wait_until(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX) == 3 &&
		   addresses[0].in6.sin6_addr.s6_addr[15] == 7);
	assert_address(&addresses[1], "192.0.2.1:0");
	assert_address(&addresses[2], "192.0.2.2:0");
	f.mode = ANSWER;
	wait_until(first_of(resolved) == 7);
}

/* Asked again when the TTL ends, and not before. To see it fail: let limit_ttl() return least. */
static void test_ttl(void **state)
{
	struct resolved *resolved = add_resolved("one.example.org", /* ttl_s= */ 0);
	f.address = 7;
	wait_until(first_of(resolved) == 7);
	resolved = add_resolved("two.example.org", /* ttl_s= */ 3600);
	f.address = 9;
	usleep(200000);
	assert_int_equal(first_of(resolved), 7);
}

/* Waits until a name whose records have these TTLs is asked for again. */
static void assert_ends_by(const char *host, int record)
{
	struct resolved *resolved;

	set_ttl(3600);
	f.ttl_s[record] = 0;
	f.queries = 0;
	resolved = resolver_add(f.resolver, host);
	wait_until(f.queries >= 3);
	resolver_remove(f.resolver, resolved);
}

/*
 * The shortest TTL counts. To see it fail: look at one part only in resolver_answer_ttl_ms(), or
 * at no alias in ttl_ms().
 */
static void test_shortest_ttl(void **state)
{
	assert_ends_by("one.example.org", TTL_A);
	assert_ends_by("two.example.org", TTL_AAAA);
	f.alias = true;
	assert_ends_by("three.example.org", TTL_CNAME);
}

/* To see it fail: leave ttl_most_ms out of limit_ttl(). */
static void test_longest_ttl(void **state)
{
	resolver_add(f.resolver, "one.example.org");
	wait_until(f.queries >= 3);
}

/*
 * After failures the interval is doubled. To see it fail: set retry_ms to the first one in
 * note_failure().
 */
static void test_retries(void **state)
{
	uint64_t start_ms = monotonic_coarse_ms();
	struct resolved *resolved;

	f.mode = NO_SUCH_NAME;
	resolved = resolver_add(f.resolver, "one.example.org");
	wait_until(f.queries >= 5);
	/* 20, 40, 80 and 160 ms, and the resolution of the clock. */
	assert_true(monotonic_coarse_ms() - start_ms + 10 >= 300);
	assert_int_equal(state_of(resolved), -ENOENT);
}

/*
 * While a name server is silent, a question gets the old addresses at once, not when the server's
 * time is over. To see it fail: have resolver_ask() look at resolved::due_ms only.
 */
static void test_old_are_answered_meanwhile(void **state)
{
	struct resolved *resolved;
	int queries;

	resolved = add_resolved("one.example.org", /* ttl_s= */ 0);
	f.mode = SILENT;
	usleep(60000);
	queries = f.queries;
	wait_until(f.queries > queries || state_of(resolved) < 0);
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.n, 3);
	assert_int_equal(state_of(resolved), 0);
}

/*
 * Whatever fails, the old addresses stay, and nobody waits. When the server is back there are new
 * ones. To see it fail: set n to 0 in note_failure().
 */
static void old_stay(int mode, int error /* 0: any */)
{
	struct resolved *resolved;
	int queries;

	resolved = add_resolved("one.example.org", /* ttl_s= */ 0);
	f.mode = mode;
	wait_until(error ? state_of(resolved) == error : state_of(resolved) < 0);
	queries = f.queries;
	wait_until(f.queries > queries);
	assert_int_equal(first_of(resolved), 1);
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.n, 3);
	f.address = 5;
	f.mode = ANSWER;
	wait_until(first_of(resolved) == 5);
	assert_int_equal(state_of(resolved), 0);
}

static void test_old_stay_silent(void **state)
{
	old_stay(SILENT, -ETIMEDOUT);
}

static void test_old_stay_no_name(void **state)
{
	old_stay(NO_SUCH_NAME, -ENOENT);
}

/* To see it fail: let why_no_server() return NULL. */
static void test_old_stay_nowhere(void **state)
{
	old_stay(NOWHERE, -EADDRNOTAVAIL);
}

static void test_old_stay_fails(void **state)
{
	/* c-ares 1.18 reports this as ECONNREFUSED. */
	old_stay(SERVER_FAILS, 0);
}

/*
 * An answer with the same addresses changes nothing, so that the one that answered last stays the
 * first. To see it fail: let same_addresses() return false.
 */
static void test_order_stays(void **state)
{
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
	struct resolved *resolved;
	int queries;

	resolved = add_resolved("one.example.org", /* ttl_s= */ 0);
	f.mode = TURNED;
	queries = f.queries;
	wait_until(f.queries > queries + 2);
	assert_int_equal(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX), 3);
	assert_address(&addresses[1], "192.0.2.1:0");
	assert_address(&addresses[2], "192.0.2.2:0");
	/* If one is gone, it is not used. To see it fail: do not compare n in same_addresses(). */
	f.mode = ONLY_A;
	wait_until(resolved_addresses(resolved, addresses, RESOLVER_ADDRESSES_MAX) == 2);
	assert_address(&addresses[0], "192.0.2.1:0");
	assert_address(&addresses[1], "192.0.2.2:0");
}

/* A name of /etc/hosts, if there is one. */
static void test_hosts(void **state)
{
	struct resolved *resolved = resolver_add(f.resolver, "localhost");

	wait_until(state_of(resolved) != -EINPROGRESS);
	assert_int_equal(f.queries, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		resolver_test(test_added),
		resolver_test(test_aaaa_is_dropped),
		impatient_test(test_aaaa_is_never_answered),
		resolver_test(test_a_is_dropped),
		cmocka_unit_test(test_errors),
		resolver_test(test_old_stay_while_aaaa_is_dropped),
		impatient_test(test_old_family_stays),
		resolver_test(test_ttl),
		resolver_test(test_shortest_ttl),
		cmocka_unit_test_setup_teardown(test_longest_ttl, setup_short, teardown),
		resolver_test(test_retries),
		resolver_test(test_old_are_answered_meanwhile),
		impatient_test(test_old_stay_silent),
		resolver_test(test_old_stay_no_name),
		resolver_test(test_old_stay_nowhere),
		resolver_test(test_old_stay_fails),
		resolver_test(test_order_stays),
		resolver_test(test_hosts),
	};

	log_init("test_resolved", LOG_LEVEL_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
