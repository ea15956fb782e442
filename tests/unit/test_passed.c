// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests bpf/passed.bpf.h, built by the host's compiler: what is remembered and for how long, and
 * threads that write and read one place. tests/verifier/block.c tests it in the kernel.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "unit.h"

#include "passed.bpf.h"
#include "util.h"

#define N 7 /* a number of changes */

/* The block list is not searched here. */
static struct tproxy_block_entry *block_lookup(void *trie, const struct tproxy_prefix *key)
{
	return NULL;
}

static __u64 block_now(void)
{
	return 0;
}

static struct tproxy_prefix ipv4(__u32 number)
{
	struct tproxy_prefix key = { .n_bits = 128, .addr = { [10] = 0xff, [11] = 0xff } };

	memcpy(&key.addr[12], &number, sizeof(number));
	return key;
}

static struct tproxy_prefix ipv6(__u64 network, __u64 host)
{
	struct tproxy_prefix key = { .n_bits = 128 };

	memcpy(&key.addr[0], &network, sizeof(network));
	memcpy(&key.addr[8], &host, sizeof(host));
	return key;
}

static void forget_all(void)
{
	memset(passed4, 0, sizeof(passed4));
	memset(passed6, 0, sizeof(passed6));
}

static void test_under_one_number(void **state)
{
	const struct tproxy_prefix keys[] = { ipv4(1), ipv6(2, 3) };
	size_t i;

	forget_all();
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		assert_false(passed_has(N, &keys[i]));
		passed_add(N, &keys[i]);
		assert_true(passed_has(N, &keys[i]));
		assert_false(passed_has(N + 1, &keys[i]));
		assert_false(passed_has(N - 1, &keys[i]));
		passed_add(N + 1, &keys[i]);
		assert_true(passed_has(N + 1, &keys[i]));
		assert_false(passed_has(N, &keys[i]));
		passed_add(UINT32_MAX, &keys[i]);
		assert_true(passed_has(UINT32_MAX, &keys[i]));
	}
}

/* 0.0.0.0 and :: are what an empty table seems to have. */
static void test_not_under_0(void **state)
{
	const struct tproxy_prefix keys[] = { ipv4(0), ipv4(1), ipv6(0, 0), ipv6(2, 3) };
	size_t i;

	forget_all();
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		assert_false(passed_has(0, &keys[i]));
		passed_add(0, &keys[i]);
		assert_false(passed_has(0, &keys[i]));
		assert_false(passed_has(N, &keys[i]));
	}
}

static void test_families(void **state)
{
	__u64 words[2];
	const struct tproxy_prefix mapped = ipv4(1);
	struct tproxy_prefix compatible; /* the same without ffff: IPv6 */

	forget_all();
	passed_words(&mapped, words);
	passed_add(N, &mapped);
	assert_false(passed6_has(N, words));
	compatible = mapped;
	memset(compatible.addr, 0, 12);
	assert_false(passed_has(N, &compatible));
	passed_add(N, &compatible);
	assert_true(passed_has(N, &mapped));
	assert_true(passed_has(N, &compatible));
}

/* All addresses that share a place: one is remembered. */
static void test_one_for_each_place(void **state)
{
	struct tproxy_prefix key;
	size_t n4 = 0, n6 = 0;
	__u32 i;

	forget_all();
	for (i = 0; i < 100000; i++) {
		key = ipv4(i);
		passed_add(N, &key);
		assert_true(passed_has(N, &key));
		key = ipv6(1 + i / 300, i);
		passed_add(N, &key);
		assert_true(passed_has(N, &key));
	}
	for (i = 0; i < 100000; i++) {
		key = ipv4(i);
		n4 += passed_has(N, &key);
		key = ipv6(1 + i / 300, i);
		n6 += passed_has(N, &key);
	}
	assert_int_equal(n4, ARRAY_SIZE(passed4));
	assert_in_range(n6, ARRAY_SIZE(passed6) / 2, ARRAY_SIZE(passed6));
}

/*
 * Of an address that has a half in common with the remembered one, at the same place, nothing is
 * known. To see it fail: leave out one of the comparisons of addr in passed6_has().
 */
static void test_half_in_common(void **state)
{
	const __u64 one[2] = { 1, 1 };
	__u64 network[2] = { 2, 1 }, host[2] = { 1, 2 };

	while (passed6_place(network) != passed6_place(one))
		network[0]++;
	while (passed6_place(host) != passed6_place(one))
		host[1]++;
	forget_all();
	passed6_add(N, one);
	assert_true(passed6_has(N, one));
	assert_false(passed6_has(N, network));
	assert_false(passed6_has(N, host));
}

/*
 * A CPU that finds another one writing believes nothing. To see it fail: leave out the test of the
 * lowest bit in passed6_has().
 */
static void test_while_it_is_written(void **state)
{
	const __u64 one[2] = { 1, 1 };

	forget_all();
	passed6_add(N, one);
	passed6_place(one)->tag |= 1;
	assert_false(passed6_has(N, one));
}

/* --- threads */

#define WRITES 2000000

static struct tproxy_prefix written[2], mixed[2];
static bool writers_end[2];

/* data: which of writers_end is set at the end. */
static void *write_both(void *data)
{
	int i;

	for (i = 0; i < WRITES; i++)
		passed_add(N, &written[i % ARRAY_SIZE(written)]);
	__atomic_store_n((bool *)data, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Sets two addresses at one place, and those that have a half of each, which are there too. */
static void find_addresses(void)
{
	const struct passed6 *place = passed6_place((const __u64[]){ 1, 1 });
	__u64 a, b;

	for (a = 2;; a++) {
		if (passed6_place((const __u64[]){ a, 1 }) != place)
			continue;
		for (b = 2; b < 100000; b++) {
			if (passed6_place((const __u64[]){ 1, b }) != place ||
			    passed6_place((const __u64[]){ a, b }) != place)
				continue;
			written[0] = ipv6(1, 1);
			written[1] = ipv6(a, b);
			mixed[0] = ipv6(1, b);
			mixed[1] = ipv6(a, 1);
			return;
		}
	}
}

/*
 * Two threads write addresses at one place, and those with a half of each are never there. To see
 * it fail, in some runs of ten: leave out the second test of the tag in passed6_has().
 */
static void test_no_halves(void **state)
{
	pthread_t threads[ARRAY_SIZE(writers_end)];
	size_t i;

	forget_all();
	find_addresses();
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_both, &writers_end[i]), 0);
	while (!__atomic_load_n(&writers_end[0], __ATOMIC_SEQ_CST) ||
	       !__atomic_load_n(&writers_end[1], __ATOMIC_SEQ_CST)) {
		for (i = 0; i < 1000; i++)
			assert_false(passed_has(N, &mixed[i % ARRAY_SIZE(mixed)]));
	}
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_true(passed_has(N, &written[0]) || passed_has(N, &written[1]));
	for (i = 0; i < ARRAY_SIZE(mixed); i++)
		assert_false(passed_has(N, &mixed[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_under_one_number), cmocka_unit_test(test_not_under_0),
		cmocka_unit_test(test_families),	 cmocka_unit_test(test_one_for_each_place),
		cmocka_unit_test(test_half_in_common),	 cmocka_unit_test(test_while_it_is_written),
		cmocka_unit_test(test_no_halves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
