// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/upstream/checks.c, with the servers of dials.h. */
#include "dials.h"

/* Active checks find an upstream down and up again, without a dial. */
static void test_checks(void **state)
{
	struct fixture *f = *state;
	struct checks *checks;

	add_upstream("all", UPSTREAM_SOCKS5, &f->addr[0])->check_interval_ms = 20;
	f->set = make_upstreams("all", NULL);
	close_server(f, 0);
	checks = checks_new(f->base, f->set, /* marks= */ NULL);
	loop_until(f->base, health_of(f, "all").state == HEALTH_DOWN);
	f->listener[0] = listen_on(&f->addr[0]);
	loop_until(f->base, health_of(f, "all").state == HEALTH_UP);
	checks_free(checks);
}

/*
 * A check tries the addresses of a name, and tells which one answers; the next check begins with
 * that. To see it fail: try one address in go_on() of checks.c, leave out upstream_note_address(),
 * or begin with the first one in next_address().
 */
static void test_check_of_addresses(void **state)
{
	struct fixture *f = *state;
	uint64_t end_ms = monotonic_coarse_ms() + 20000;
	struct sockaddr_in addr = beside(f);
	struct checks *checks;
	int other = -1, n = 0;

	add_named(f, "all", "127.0.0.2:1", "127.0.0.1:1")->check_interval_ms = 20;
	f->set = make_upstreams("all", NULL);
	checks = checks_new(f->base, f->set, /* marks= */ NULL);
	while (n < 3 && monotonic_coarse_ms() < end_ms) {
		pass(f);
		n += accepted(f, 0);
		if (other < 0 && health_of(f, "all").state == HEALTH_UP)
			other = listen_at(&addr);
	}
	checks_free(checks);
	assert_int_equal(n, 3);
	assert_int_equal(health_of(f, "all").failed, 0);
	assert_int_equal(accept4(other, NULL, NULL, SOCK_NONBLOCK), -1);
	close(other);
}

/*
 * A check sends a PROXY header, and no greeting. To see it fail: leave the type as it is in
 * add_check() of checks.c, or set check->server.conf.proxy_header to PROXY_HEADER_NONE.
 */
static void test_check_with_header(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *u = add_upstream("all", UPSTREAM_SOCKS5, &f->addr[0]);
	struct checks *checks;
	char got[64] = "";
	ssize_t n = -1;

	u->check_interval_ms = 20;
	u->proxy_header = PROXY_HEADER_V1;
	f->set = make_upstreams("all", NULL);
	checks = checks_new(f->base, f->set, /* marks= */ NULL);
	loop_until(f->base, accepted(f, 0));
	/* A reset, if nothing was sent before. */
	loop_until(f->base,
		   (n = recv(f->server[0], got, sizeof(got) - 1, 0)) >= 0 || errno != EAGAIN);
	checks_free(checks);
	assert_int_equal(n, 6);
	assert_string_equal(got, "PROXY\n");
	assert_int_equal(health_of(f, "all").failed, 0);
}

/*
 * A check that is not answered until the next one is a failure. To see it fail: do not note one in
 * on_tick() of checks.c.
 */
static void test_check_without_answer(void **state)
{
	struct fixture *f = *state;
	struct checks *checks;
	int clients[QUEUE];

	add_upstream("all", UPSTREAM_SOCKS5, &f->addr[0])->check_interval_ms = 20;
	fill_tcp_backlog(f, 0, clients);
	f->set = make_upstreams("all", NULL);
	checks = checks_new(f->base, f->set, /* marks= */ NULL);
	wait_failures(f, "all", 1);
	assert_true(health_of(f, "all").failures[HEALTH_TIMEOUT] > 0);
	checks_free(checks);
	close_all(clients);
}

/*
 * A proxy that accepts connections and answers no client. Checks neither end DOWN, nor hide that
 * no connection is completed. To see it fail: call upstream_note_success() in succeed() of
 * checks.c whatever the type is, or upstream_note_answer() although no check has failed.
 */
static void test_checks_of_a_silent_proxy(void **state)
{
	struct fixture *f = *state;
	struct checks *checks;
	int i, n = 0;

	add_upstream("all", UPSTREAM_HTTP, &f->addr[0])->check_interval_ms = 20;
	f->set = make_upstreams("all", NULL);
	for (i = 0; i < HEALTH_FAILURES; i++)
		upstream_note_failure(f->set->list[0], HEALTH_TIMEOUT, ETIMEDOUT, "no answer");
	checks = checks_new(f->base, f->set, /* marks= */ NULL);
	loop_until(f->base, (n += accepted(f, 0)) == 3);
	checks_free(checks);
	assert_int_equal(health_of(f, "all").state, HEALTH_DOWN);
	assert_int_equal(health_of(f, "all").consecutive, HEALTH_FAILURES);
	assert_int_equal(atomic_load(&f->set->list[0]->health.success_ms), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_checks),
		dial_test(test_check_of_addresses),
		dial_test(test_check_with_header),
		dial_test(test_check_without_answer),
		dial_test(test_checks_of_a_silent_proxy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
