// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests questions to a resolver (proxy/upstream/resolver_port.c and resolver_thread.c): their
 * answers and failures, which are remembered, those that are cancelled, and those that are open at
 * the end.
 */
#include "name_server.h"

/* A socket that cannot be marked is not used. To see it fail: return 0 in on_new_socket(). */
static void test_not_marked(void **state)
{
	f.mark_result = -EPERM;
	ask("one.example.org");
	wait_until(f.answers);
	assert_true(f.error < 0);
	assert_int_equal(f.queries, 0);
}

/* Answers are remembered by their TTL. To see it fail: never answer in resolver_ask() itself. */
static void test_asked(void **state)
{
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.n, 3);
	assert_address(&f.addresses[1], "192.0.2.1:0");
	f.answers = 0;
	f.mode = SILENT;
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.n, 3);
	assert_int_equal(f.queries, 1);
}

/* When the TTL of a name that was not added has ended, a failure is the answer. */
static void test_asked_expired(void **state)
{
	set_ttl(0);
	ask("one.example.org");
	wait_until(f.answers);
	usleep(60000);
	f.mode = NO_SUCH_NAME;
	f.answers = 0;
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, -ENOENT);
	assert_int_equal(f.n, 0);
}

/* A dead server: the answer is a failure in the end, and the rest goes on meanwhile. */
static void test_dead_server(void **state)
{
	f.mode = SILENT;
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, -ETIMEDOUT);
}

/* The question for one family. */
static void assert_answered_for(int family, int error, size_t n)
{
	f.answers = 0;
	ask_for("one.example.org", family);
	wait_until(f.answers);
	assert_int_equal(f.error, error);
	assert_int_equal(f.n, n);
}

/*
 * A question for one family does not wait for the other one, whether it is the first or comes
 * later. To see it fail: leave answer_by_parts() out of resolved_note_part(), or
 * resolved_answer_by_part() out of resolver_ask().
 */
static void test_one_family(void **state)
{
	const uint64_t begun_ms = monotonic_coarse_ms();

	f.mode = DROPS_AAAA;
	assert_answered_for(AF_INET, 0, 2);
	assert_answered_for(AF_INET, 0, 2);
	assert_true(monotonic_coarse_ms() - begun_ms < 5000);
	f.answers = 0;
	ask_for("one.example.org", AF_INET6);
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	assert_int_equal(f.answers, 0);
	f.mode = ANSWER;
	wait_until(f.answers);
	assert_int_equal(f.n, 3);
}

/* Many ask for one name. A question that was cancelled gets no answer. */
static void test_together(void **state)
{
	struct resolver_question *second;

	f.mode = SILENT;
	ask("one.example.org");
	second = ask("one.example.org");
	ask("one.example.org");
	resolver_cancel(second);
	wait_until(f.queries);
	f.mode = ANSWER;
	wait_until(f.answers == 2);
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	assert_int_equal(f.answers, 2);
}

/* A question that has its answer, but was not told yet, is cancelled. */
static void test_cancel_answered(void **state)
{
	struct resolved *resolved = resolver_add(f.resolver, "one.example.org");

	wait_until(state_of(resolved) == 0);
	resolver_cancel(ask("one.example.org"));
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	assert_int_equal(f.answers, 0);
}

/* All ends while questions are open; teardown() frees the port and the resolver. */
static void test_end_open(void **state)
{
	f.mode = SILENT;
	resolver_add(f.resolver, "one.example.org");
	ask("two.example.org");
	wait_until(f.queries == 2);
	ask("three.example.org");
}

/* Names beyond the limit replace older ones. */
static void test_limit(void **state)
{
	char name[64];
	int i;

	for (i = 0; i < RESOLVER_REMEMBERED_MAX + 100; i += 20) {
		int j;

		for (j = 0; j < 20; j++) {
			snprintf(name, sizeof(name), "n%d.example.org", i + j);
			assert_non_null(resolver_ask(f.port, name, AF_UNSPEC, on_answer, &f));
		}
		wait_until(f.answers >= i + 20);
	}
	f.queries = f.answers = 0;
	ask("n1.example.org");
	wait_until(f.answers);
	assert_int_equal(f.queries, 1);
	f.answers = 0;
	ask(name);
	wait_until(f.answers);
	assert_int_equal(f.queries, 1);
}

/*
 * An answer for a client's name is too long, and the server refuses the connection: the question
 * for an upstream's name goes on. To see it fail: ask all servers by RESOLVER_ADDED in
 * resolved_begin().
 */
static void test_long_answer_for_a_client(void **state)
{
	struct resolved *resolved;
	uint64_t age_ms;

	f.mode = TRUNCATES;
	resolved = resolver_add(f.resolver, "one.example.org");
	wait_until(f.queries);
	ask("long.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, -ECONNREFUSED);
	assert_int_equal(resolved_state(resolved, &age_ms), -EINPROGRESS);
}

/*
 * A search domain does not answer for a client's name, but for one of an upstream. To see it fail:
 * let is_whole be false in on_file().
 */
static void test_search_domains(void **state)
{
	struct resolved *resolved;
	uint64_t age_ms;

	/* ares_init_options(3): in place of those of /etc/resolv.conf */
	assert_int_equal(setenv("LOCALDOMAIN", "search.example", 1), 0);
	f.mode = NO_SUCH_NAME;
	ask("one.example.org");
	wait_until(f.answers);
	assert_int_equal(f.error, -ENOENT);
	assert_int_equal(f.queries, 1);
	resolved = resolver_add(f.resolver, "two.example.org");
	wait_until(resolved_state(resolved, &age_ms) == -ENOENT);
	assert_true(f.queries >= 3);
	unsetenv("LOCALDOMAIN");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		patient_test(test_long_answer_for_a_client),
		patient_test(test_search_domains),
		resolver_test(test_not_marked),
		resolver_test(test_asked),
		resolver_test(test_asked_expired),
		impatient_test(test_dead_server),
		resolver_test(test_one_family),
		impatient_test(test_together),
		resolver_test(test_cancel_answered),
		impatient_test(test_end_open),
		resolver_test(test_limit),
	};

	log_init("test_resolver", LOG_LEVEL_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
