// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/upstream/walk.c: more silent upstreams than attempts run at the same time. */
#include <sys/resource.h>

#include "dials.h"

/* All but the last of the members are silent. Dials until the last one is greeted. */
static void wait_last(struct fixture *f, int members)
{
	int i;

	start(f);
	for (i = 0; i < members; i++)
		wait_greeted(f, i, "HI\n");
}

static void begin(struct fixture *f, int members, enum upstream_type type)
{
	walk_times.second_ms = 5;
	walk_times.answer_ms = 100;
	group_of(f, (size_t)members, type);
	f->set = make_upstreams("all", NULL);
}

/*
 * While all of them have room, none is given up, and the first one may answer late. Those that
 * began after it were not slower. To see it fail: let set_attempt_timer() ignore whether an address
 * is left; let note_winner() judge all that run.
 */
static void test_room_for_all(void **state)
{
	struct fixture *f = *state;
	int i;

	begin(f, WALK_ATTEMPTS, UPSTREAM_SOCKS5);
	wait_last(f, WALK_ATTEMPTS);
	for (i = 0; i < 150; i++)
		pass(f);
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	for (i = 1; i < WALK_ATTEMPTS; i++)
		assert_closed(f, i);
	assert_int_equal(health_of(f, "a").failed, 0);
	assert_int_equal(health_of(f, "b").failed, 0);
}

/*
 * The last one that has room begins second_ms after the one before. To see it fail: let
 * set_attempt_timer() wait for the oldest one if WALK_ATTEMPTS - 1 run.
 */
static void test_each_begins_early(void **state)
{
	struct fixture *f = *state;

	begin(f, WALK_ATTEMPTS, UPSTREAM_SOCKS5);
	walk_times.answer_ms = 2 * NEVER_MS;
	wait_last(f, WALK_ATTEMPTS);
}

/*
 * Then the oldest one gives way, but not before it has had its time. It owed an answer of its own,
 * so it has failed whatever follows. To see it fail: let answer_left_ms() return 0; let
 * oldest_attempt() return NULL, and drop_spent() do nothing then.
 */
static void test_oldest_gives_way(void **state)
{
	struct fixture *f = *state;
	uint64_t start_ms = monotonic_coarse_ms();

	begin(f, WALK_ATTEMPTS + 1, UPSTREAM_SOCKS5);
	wait_last(f, WALK_ATTEMPTS + 1);
	assert_true(monotonic_coarse_ms() - start_ms + 10 >= walk_times.answer_ms);
	assert_closed(f, 0);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
	answer(f, WALK_ATTEMPTS, "Y");
	wait_done(f);
	assert_through(f, "e", WALK_ATTEMPTS);
	assert_int_equal(health_of(f, "b").failures[HEALTH_TIMEOUT], 1);
}

/* True if each member but the last one has failed @times in a row. */
static bool all_have_failed(struct fixture *f, int members, uint64_t times)
{
	int i;

	for (i = 0; i < members - 1; i++) {
		if (times < HEALTH_FAILURES ? health_of(f, names[i]).failed != times
					    : health_of(f, names[i]).state != HEALTH_DOWN)
			return false;
	}
	return true;
}

/*
 * The silence of an HTTP proxy may be the destination's. It is down after three dials in which
 * another one was faster, although it had been given up before. If this process does not run for
 * answer_ms, the last one is not faster than the others, and the test starts again with new
 * upstreams. To see it fail: do not call place_judge_silent_loser().
 */
static void test_silent_ones_go_down(void **state)
{
	const int members = WALK_ATTEMPTS + 2;
	struct fixture *f = *state;
	int i, tries;

	for (tries = 0; tries < 20; tries++) {
		begin(f, members, UPSTREAM_HTTP);
		for (i = 0; i < HEALTH_FAILURES && all_have_failed(f, members, i); i++) {
			wait_last(f, members);
			answer(f, members - 1, "Y");
			wait_done(f);
			assert_through(f, "f", members - 1);
		}
		if (i == HEALTH_FAILURES && all_have_failed(f, members, i))
			return;
		upstreams_unref(f->set);
		f->set = NULL;
	}
	fail_msg("the silent ones are not down");
}

/* If none is faster, none has failed. To see it fail: leave outcome_may_be_destination() out. */
static void test_silent_destination_is_no_failure(void **state)
{
	struct fixture *f = *state;
	int i;

	begin(f, WALK_ATTEMPTS + 1, UPSTREAM_HTTP);
	wait_last(f, WALK_ATTEMPTS + 1);
	assert_closed(f, 0);
	dial_expire(f->dial);
	assert_int_equal(f->done, 1);
	for (i = 0; i < WALK_ATTEMPTS + 1; i++)
		assert_int_equal(health_of(f, names[i]).failed, 0);
}

/*
 * A trial that is given up holds up no other one. To see it fail: do not call health_given_up() in
 * place_note_silence().
 */
static void test_trial_is_given_up(void **state)
{
	struct fixture *f = *state;

	begin(f, WALK_ATTEMPTS + 1, UPSTREAM_HTTP);
	walk_times.trial_ms = NEVER_MS;
	bring_down(f);
	wait_last(f, WALK_ATTEMPTS + 1);
	assert_closed(f, 0);
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	assert_true(health_would_begin(&find(f, "a")->health, monotonic_coarse_ms()));
}

/*
 * Of one upstream two addresses are tried before the next upstream, however many it has. To see it
 * fail: let is_connecting() ignore how many attempts run.
 */
static void test_next_after_two_addresses(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group;
	int clients[QUEUE];

	walk_times.second_ms = 5;
	group = group_of(f, 1, UPSTREAM_SOCKS5);
	group->n_members = 2;
	strcpy(group->members[0].name, "named");
	strcpy(group->members[1].name, "a");
	add_named(f, "named", "127.0.0.1:1", "127.0.0.1:1")->port = ntohs(f->addr[1].sin_port);
	resolver.addresses[2] = resolver.addresses[3] = resolver.addresses[0];
	resolver.n = 4;
	fill_tcp_backlog(f, 1, clients);
	start(f);
	complete(f, 0, "a");
	close_all(clients);
}

/*
 * One that was given up has not lost against one that took longer. To see it fail: let
 * place_judge_silent_loser() leave out the winner's time.
 */
static void test_given_up_too_early_to_lose(void **state)
{
	struct fixture *f = *state;

	begin(f, WALK_ATTEMPTS + 1, UPSTREAM_HTTP);
	wait_last(f, WALK_ATTEMPTS + 1);
	assert_closed(f, 0);
	walk_times.answer_ms = NEVER_MS;
	pass_ms(f, 100);
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
	assert_int_equal(health_of(f, "a").failed, 0);
}

/*
 * An upstream with more addresses, one of which was silent, waits for those that were not tried
 * yet. The second member has its time 400 ms after the first one; a machine that stands still for
 * so long gets another try. To see it fail: let next_place() ignore place::slow.
 */
static void test_silent_place_waits_for_others(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group;
	uint64_t begun_ms;
	int i;

	walk_times.answer_ms = 450;
	group = group_of(f, 4, UPSTREAM_SOCKS5);
	group->n_members = 5;
	memmove(&group->members[1], &group->members[0], 4 * sizeof(group->members[0]));
	strcpy(group->members[0].name, "named");
	add_named(f, "named", "127.0.0.1:1", "127.0.0.1:1")->port = ntohs(f->addr[4].sin_port);
	f->set = make_upstreams("all", NULL);
	for (i = 0; i < HEALTH_FAILURES - 1; i++) { /* none is down yet */
		begun_ms = monotonic_coarse_ms();
		walk_times.second_ms = 400;
		start(f);
		walk_times.second_ms = 5;
		wait_greeted(f, 3, "HI\n");
		dial_abandon(f->dial);
		if (monotonic_coarse_ms() < begun_ms + 400 + walk_times.answer_ms)
			return;
	}
	fail_msg("the second address of the first member was dialled before");
}

/*
 * Without a descriptor for one more attempt, its address is not lost. To see it fail: do not call
 * postpone().
 */
static void test_short_of_descriptors(void **state)
{
	struct fixture *f = *state;
	struct rlimit limit, none;

	begin(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	pass_ms(f, 30);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	complete(f, 1, "b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_room_for_all),
		dial_test(test_each_begins_early),
		dial_test(test_oldest_gives_way),
		dial_test(test_silent_ones_go_down),
		dial_test(test_silent_destination_is_no_failure),
		dial_test(test_trial_is_given_up),
		dial_test(test_next_after_two_addresses),
		dial_test(test_given_up_too_early_to_lose),
		dial_test(test_silent_place_waits_for_others),
		dial_test(test_short_of_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
