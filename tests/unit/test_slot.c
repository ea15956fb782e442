// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests bpf/slot.bpf.h, built by the host's compiler. */
#include "slot.bpf.h"

#include "unit.h"
#include "util.h"

#define NOW_NS 1000000000000ULL

/* To see it fail: leave out the remainder in slot_index(), or take the lower bits of the hash. */
static void test_index(void **state)
{
	__u32 probe, used = 0;
	static bool seen[TPROXY_PENDING_MAX];
	__u64 cookie;

	for (cookie = 1; cookie <= TPROXY_PENDING_MAX; cookie++) {
		for (probe = 0; probe < SLOT_PROBES; probe++) {
			__u32 index = slot_index(cookie, probe);

			assert_true(index < TPROXY_PENDING_MAX);
			assert_int_equal(index,
					 (slot_index(cookie, 0) + probe) % TPROXY_PENDING_MAX);
		}
		used += !seen[slot_index(cookie, 0)];
		seen[slot_index(cookie, 0)] = true;
	}
	/* Cookies are consecutive numbers, most of which have a slot of their own. */
	assert_true(used > TPROXY_PENDING_MAX / 8 * 7);
}

static bool is_free(__u32 state, __u64 since_ns, __u64 answered, __u32 answer)
{
	return slot_is_free(TPROXY_WORD(7, state), since_ns, TPROXY_WORD(answered, answer), NOW_NS);
}

/* To see it fail: let slot_is_free() ignore the generation, the answer, or the time. */
static void test_is_free(void **state)
{
	const __u64 long_ago = NOW_NS - TPROXY_STALE_NS - 1, lately = NOW_NS - TPROXY_STALE_NS;
	__u32 i;

	assert_true(slot_is_free(0, 0, 0, NOW_NS)); /* never used */
	for (i = TPROXY_PENDING_FREE; i <= TPROXY_PENDING_CLOSED; i++) {
		bool ended = i == TPROXY_PENDING_ESTABLISHED || i == TPROXY_PENDING_CLOSED;
		bool free = i == TPROXY_PENDING_FREE;
		__u32 answer;

		for (answer = TPROXY_ANSWER_NONE; answer <= TPROXY_ANSWER_TAKEN; answer++) {
			bool taken = answer == TPROXY_ANSWER_TAKEN;

			assert_int_equal(is_free(i, lately, 7, answer), free || (ended && taken));
			assert_int_equal(is_free(i, lately, 6, answer), free);
			assert_int_equal(is_free(i, lately, 8, answer), free);
		}
		/* The relay was killed, and says nothing. */
		assert_int_equal(is_free(i, long_ago, 6, TPROXY_ANSWER_TAKEN),
				 free || i == TPROXY_PENDING_CLOSED);
	}
}

static void test_answer(void **state)
{
	const __u64 verdict = TPROXY_WORD(1ULL << 40, TPROXY_ANSWER_FAILED);

	assert_int_equal(slot_answer(verdict, 1ULL << 40), TPROXY_ANSWER_FAILED);
	assert_int_equal(slot_answer(verdict, (1ULL << 40) + 1), TPROXY_ANSWER_NONE);
	assert_int_equal(slot_answer(verdict, (1ULL << 40) - 1), TPROXY_ANSWER_NONE);
	assert_int_equal(slot_answer(0, 1), TPROXY_ANSWER_NONE);
}

/* To see it fail: ask the rule last in slot_is_wanted(). */
static void test_wanted(void **state)
{
	const __u32 capable = TPROXY_LISTENER_CAPABLE;
	const __u32 by_default = TPROXY_LISTENER_CAPABLE | TPROXY_LISTENER_DEFAULT;

	assert_false(slot_is_wanted(TPROXY_CONN_HONEST, 0));
	assert_false(slot_is_wanted(TPROXY_CONN_HONEST, TPROXY_LISTENER_DEFAULT));
	assert_false(slot_is_wanted(0, capable));
	assert_false(slot_is_wanted(TPROXY_CONN_EAGER, capable));
	assert_true(slot_is_wanted(TPROXY_CONN_HONEST, capable));
	assert_true(slot_is_wanted(0, by_default));
	assert_false(slot_is_wanted(TPROXY_CONN_EAGER, by_default));
	assert_true(slot_is_wanted(TPROXY_CONN_HONEST, by_default));
}

/*
 * The kernel's timers one by one. The connection ends by the one that fires after syncnt + linear
 * retransmissions, or by the second one or a later one when limit_s are over.
 */
static __u32 model_until_s(__u32 syncnt, __u32 linear, __u32 limit_s)
{
	__u32 interval_s = 1, now_s = 0, fired;

	for (fired = 0;; fired++) {
		now_s += interval_s;
		if (fired > 0 && (fired >= syncnt + linear || now_s >= limit_s))
			return now_s;
		if (fired >= linear)
			interval_s = interval_s * 2 < 120 ? interval_s * 2 : 120;
	}
}

/* Without TCP_USER_TIMEOUT the limit is the time that syncnt alone would take. */
static __u32 model_s(__u32 syncnt, __u32 linear)
{
	__u32 limit_s = 0, i;

	for (i = 0; i <= syncnt; i++)
		limit_s += i <= 6 ? 1U << i : 120;
	return model_until_s(syncnt, linear, limit_s);
}

/* To see it fail: add the linear intervals to the time without them, or let it round down. */
static void test_timeout(void **state)
{
	/* Measured with Linux 6.18: connect() to a black hole. */
	static const struct {
		__u32 syncnt, linear, seconds;
	} rows[] = {
		{ 1, 0, 3 }, { 2, 0, 7 }, { 3, 0, 15 }, { 1, 1, 4 }, { 2, 1, 8 }, { 3, 1, 16 },
		{ 1, 2, 3 }, { 2, 2, 9 }, { 3, 2, 17 }, { 1, 4, 3 }, { 2, 4, 7 }, { 3, 4, 19 },
	};
	__u32 syncnt, linear;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(slot_limit_ms(rows[i].syncnt, rows[i].linear, 0),
				 rows[i].seconds * 1000);
		assert_int_equal(model_s(rows[i].syncnt, rows[i].linear), rows[i].seconds);
	}
	for (syncnt = 1; syncnt <= SLOT_SYNCNT_MAX; syncnt++) {
		for (linear = 0; linear <= SLOT_SYNCNT_MAX; linear++)
			assert_int_equal(slot_limit_ms(syncnt, linear, 0),
					 model_s(syncnt, linear) * 1000);
	}
	assert_int_equal(slot_limit_ms(1000, 0, 0), slot_limit_ms(SLOT_SYNCNT_MAX, 0, 0));
}

/*
 * With TCP_USER_TIMEOUT the kernel counts SYNs, which differs from its time without that option if
 * there are linear intervals. To see it fail: return user_ms if it is the shorter one; take the
 * value of slot_timer_from_s() for count_ms.
 */
static void test_user_timeout(void **state)
{
	/* Measured with Linux 6.18, whose default of tcp_syn_linear_timeouts is 4. */
	static const struct {
		__u32 syncnt, linear, user_ms, expected_ms;
	} rows[] = {
		{ 1, 0, 0, 3000 },	{ 1, 0, 1, 1000 },     { 1, 0, 999, 1000 },
		{ 1, 0, 1500, 1500 },	{ 1, 0, 3000, 3000 },  { 1, 0, 90000, 3000 },
		{ 1, 4, 0, 3000 },	{ 1, 4, 20000, 7000 }, { 2, 4, 8000, 8000 },
		{ 2, 4, 60000, 11000 },
	};
	__u32 syncnt, linear;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(slot_limit_ms(rows[i].syncnt, rows[i].linear, rows[i].user_ms),
				 rows[i].expected_ms);
	for (syncnt = 1; syncnt <= SLOT_SYNCNT_MAX; syncnt++) {
		for (linear = 0; linear <= SLOT_SYNCNT_MAX; linear++)
			assert_int_equal(slot_limit_ms(syncnt, linear, UINT32_MAX),
					 model_until_s(syncnt, linear, UINT32_MAX) * 1000);
	}
}

/* To see it fail: add in 32 bits, or leave out one of the three conditions. */
static void test_limit_of_the_dial(void **state)
{
	static const struct {
		__u32 limit_ms, dialled_ms, dial_ms, expected_ms;
	} rows[] = {
		{ 127000, 13, 30000, 30513 },	   { 30513, 13, 30000, 30513 },
		{ 30512, 13, 30000, 30512 },	   { 127000, 0, 30000, 127000 },
		{ 127000, 13, 0, 127000 },	   { 127000, 13, UINT32_MAX, 127000 },
		{ 127000, UINT32_MAX, 1, 127000 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(
			slot_dial_limit_ms(rows[i].limit_ms, rows[i].dialled_ms, rows[i].dial_ms),
			rows[i].expected_ms);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_is_free),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_wanted),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_user_timeout),
		cmocka_unit_test(test_limit_of_the_dial),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
