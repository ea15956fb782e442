// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/upstream/walk.c and place.c: upstreams with several addresses, and with a name. */
#include "dials.h"

/*
 * One of the addresses is dead. The other one is tried, the next dial begins with that, and the
 * upstream has not failed. To see it fail: note each failure in note_attempt_failure(); leave out
 * upstream_note_address().
 */
static void test_addresses(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in addr = beside(f);
	int i, other;

	add_named(f, "all", "127.0.0.2:1", "127.0.0.1:1");
	start(f);
	complete(f, 0, "all");
	assert_int_equal(health_of(f, "all").failed, 0);
	other = listen_at(&addr);
	for (i = 0; i < 2; i++) {
		start(f);
		wait_greeted(f, 0, "HI\n");
		answer(f, 0, "Y");
		wait_done(f);
	}
	assert_int_equal(accept4(other, NULL, NULL, SOCK_NONBLOCK), -1);
	close(other);
}

/* All addresses are dead: one failure. To see it fail: as above, or leave out place_fail(). */
static void test_no_address_answers(void **state)
{
	struct fixture *f = *state;

	add_named(f, "all", "127.0.0.2:1", "127.0.0.1:1");
	close_server(f, 0);
	start(f);
	wait_done(f);
	assert_int_equal(f->result.error, ECONNREFUSED);
	assert_int_equal(health_of(f, "all").failures[HEALTH_CONNECT], 1);
}

/*
 * An address is silent, and the other one is faster: the upstream is well. To see it fail: do not
 * compare the upstreams in place_judge_loser().
 */
static void test_second_address_wins(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in addr = beside(f);
	int other = listen_at(&addr);

	hurry();
	add_named(f, "all", "127.0.0.2:1", "127.0.0.1:1");
	start(f);
	complete(f, 0, "all");
	assert_int_equal(health_of(f, "all").failed, 0);
	close(other);
}

/*
 * The name is not resolved yet: the dial waits for that. To see it fail: let policy() ignore
 * walk::unresolved.
 */
static void test_name_is_waited_for(void **state)
{
	struct fixture *f = *state;
	int i;

	add_named(f, "all", "127.0.0.1:1", "127.0.0.1:1");
	resolver.n = 0;
	resolver.state = -EINPROGRESS;
	start(f);
	for (i = 0; i < 20; i++)
		pass(f);
	assert_int_equal(f->done, 0);
	assert_int_equal(health_of(f, "all").failed, 0);
	resolver.n = 1;
	resolver.state = 0;
	complete(f, 0, "all");
}

/* There is no such name: the next one. To see it fail: leave out place_fail() in no_address(). */
static void test_no_such_name(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group;

	group = group_of(f, 1, UPSTREAM_TCP);
	group->n_members = 2;
	strcpy(group->members[0].name, "named");
	strcpy(group->members[1].name, "a");
	add_named(f, "named", "127.0.0.1:1", "127.0.0.1:1");
	resolver.n = 0;
	resolver.state = -ENOENT;
	start(f);
	wait_done(f);
	assert_through(f, "a", 0);
	assert_int_equal(health_of(f, "named").failures[HEALTH_NAME], 1);
	assert_int_equal(health_of(f, "named").error, EHOSTUNREACH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_addresses),	     dial_test(test_no_address_answers),
		dial_test(test_second_address_wins), dial_test(test_name_is_waited_for),
		dial_test(test_no_such_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
