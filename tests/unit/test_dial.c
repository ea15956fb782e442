// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/upstream/dial.c, walk.c and attempt.c: the order of attempts, what counts for the
 * health of an upstream, and the ends.
 */
#include "dials.h"

/* Without it, the client's first bytes wait for no acknowledgement of a handshake. */
static void assert_has_nagle(const struct fixture *f, bool nagle)
{
	socklen_t len = sizeof(int);
	int no_delay;

	assert_int_equal(getsockopt(f->result.fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &len), 0);
	assert_int_equal(f->result.nagle, nagle);
	assert_int_equal(!no_delay, nagle);
}

static void assert_acks_late(const struct fixture *f, bool late)
{
	socklen_t len = sizeof(int);
	int quick;

	assert_int_equal(getsockopt(f->result.fd, IPPROTO_TCP, TCP_QUICKACK, &quick, &len), 0);
	assert_int_equal(f->result.acks_late, late);
	assert_int_equal(!quick, late);
}

/*
 * The server's last word has acknowledged all before it, so nothing waits. To see it fail: ignore
 * handshake_is_in_answer(); leave out acks_late, or event, in end_done().
 */
static void test_first_member_wins(void **state)
{
	struct fixture *f = *state;

	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	assert_int_equal(f->done, 0);
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_has_nagle(f, true);
	assert_acks_late(f, true);
	assert_true(f->was_polled);
	assert_false(accepted(f, 1));
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
	assert_true(health_of(f, "a").ewma_us > 0);
	assert_int_equal(health_of(f, "b").dials, 0);
}

/*
 * The upstream is asked for the name only if that is configured; a PROXY header has it in any case.
 * To see it fail: ignore send_name in create_handshake(), or leave out known_name.
 */
static void test_name_of_destination(void **state)
{
	struct fixture *f = *state;
	int i;

	f->name = "www.example.org";
	group_of(f, 2, UPSTREAM_SOCKS5);
	upstreams_conf.list[0].send_name = true;
	start(f);
	for (i = 0; i < 2; i++) {
		wait_greeted(f, i, "HI\n");
		assert_string_equal(last_target.known_name, f->name);
		assert_string_equal(last_target.name ? last_target.name : "-", i ? "-" : f->name);
		answer(f, i, i ? "Y" : "P");
	}
	wait_done(f);
}

/* To see it fail: call policy() after the first failure. */
static void test_refused_connect_goes_to_the_next(void **state)
{
	struct fixture *f = *state;

	group_of(f, 3, UPSTREAM_TCP);
	close_server(f, 0);
	close_server(f, 1);
	start(f);
	wait_done(f);
	assert_through(f, "c", 2);
	assert_has_nagle(f, true);
	assert_int_equal(health_of(f, "a").failures[HEALTH_CONNECT], 1);
	assert_int_equal(health_of(f, "b").error, ECONNREFUSED);
	assert_int_equal(health_of(f, "c").failed, 0);
}

static void test_reset_in_handshake_goes_to_the_next(void **state)
{
	struct fixture *f = *state;

	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	close(TAKE_FD(f->server[0]));
	complete(f, 1, "b");
	assert_int_equal(health_of(f, "a").failures[HEALTH_HANDSHAKE], 1);
}

/*
 * The end of the connection after an answer goes to the next one, and is no failure: ssh -D refuses
 * destinations so. To see it fail: leave attempt_ended_after_answer() out.
 */
static void test_end_after_answer_is_no_failure(void **state)
{
	struct fixture *f = *state;
	int i;

	group_of(f, 2, UPSTREAM_SOCKS5);
	for (i = 0; i < HEALTH_FAILURES; i++) {
		start(f);
		wait_greeted(f, 0, "HI\n");
		answer(f, 0, "A");
		close(TAKE_FD(f->server[0]));
		complete(f, 1, "b");
	}
	assert_int_equal(health_of(f, "a").failed, 0);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

/*
 * Within an answer it is one. To see it fail: leave partial out of handshake_was_answered().
 */
static void test_end_within_an_answer_is_a_failure(void **state)
{
	struct fixture *f = *state;

	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "H");
	close(TAKE_FD(f->server[0]));
	complete(f, 1, "b");
	assert_int_equal(health_of(f, "a").failures[HEALTH_HANDSHAKE], 1);
}

static void test_refused_password_goes_to_the_next(void **state)
{
	struct fixture *f = *state;

	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "P");
	complete(f, 1, "b");
	assert_int_equal(health_of(f, "a").failures[HEALTH_AUTH], 1);
	assert_string_equal(health_of(f, "a").why, "password refused");
}

/*
 * A request that an upstream does not serve goes to the next one. It is no failure, however often
 * it is repeated: a client may send such requests on purpose. To see it fail: handle
 * ATTEMPT_DECLINED as ATTEMPT_FAILED.
 */
static void test_request_not_served_goes_to_the_next(void **state)
{
	struct fixture *f = *state;
	int i;

	group_of(f, 2, UPSTREAM_SOCKS5);
	for (i = 0; i < HEALTH_FAILURES + 1; i++) {
		start(f);
		wait_greeted(f, 0, "HI\n");
		answer(f, 0, "X");
		complete(f, 1, "b");
	}
	assert_int_equal(health_of(f, "a").failed, 0);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
	assert_int_equal(atomic_load(&find(f, "a")->figures.refused), HEALTH_FAILURES + 1);
}

/* Waiting does not help such a request. To see it fail: leave may_be_served() out of policy(). */
static void test_request_not_served_does_not_wait(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group = group_of(f, 1, UPSTREAM_SOCKS5);

	group->when_down = UPSTREAM_DOWN_WAIT;
	group->down_wait_ms = 60000;
	group->down_error = EHOSTUNREACH;
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "X");
	wait_done(f);
	assert_int_equal(f->result.error, EHOSTUNREACH);
	assert_string_equal(f->why, "no IPv6 here");
	assert_false(accepted(f, 0));
}

/*
 * If another member may serve the request, it is waited for, and the one that does not serve it is
 * not asked again. To see it fail: ignore place::declined in next_place().
 */
static void test_request_not_served_is_not_repeated(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group = group_of(f, 2, UPSTREAM_SOCKS5);

	group->when_down = UPSTREAM_DOWN_WAIT;
	group->down_wait_ms = 60000;
	close_server(f, 1);
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "X");
	wait_failures(f, "b", 2);
	f->listener[1] = listen_on(&f->addr[1]);
	complete(f, 1, "b");
	assert_false(accepted(f, 0));
}

/*
 * What the upstream says of the destination is the end, and no failure of the upstream. To see it
 * fail: handle ATTEMPT_REFUSED as ATTEMPT_FAILED.
 */
static void test_refused_destination_is_the_end(void **state)
{
	struct fixture *f = *state;

	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "N");
	wait_done(f);
	assert_int_equal(f->result.fd, -1);
	assert_int_equal(f->result.error, ENETUNREACH);
	assert_true(f->result.refused);
	assert_string_equal(f->result.upstream->conf.name, "a");
	assert_string_equal(f->why, "not today");
	assert_false(accepted(f, 1));
	assert_int_equal(health_of(f, "a").failed, 0);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
	assert_int_equal(atomic_load(&find(f, "a")->figures.refused), 1);
}

/*
 * It ends a row of failures. To see it fail: call upstream_note_answer() in note_refusal() in place
 * of upstream_note_success().
 */
static void test_refusal_is_a_success(void **state)
{
	struct fixture *f = *state;
	struct health *h;
	int i;

	group_of(f, 1, UPSTREAM_SOCKS5);
	f->set = make_upstreams("all", NULL);
	h = &find(f, "a")->health;
	for (i = 1; i < HEALTH_FAILURES; i++)
		health_failed(h, HEALTH_CONNECT, ECONNREFUSED, "", monotonic_coarse_ms());
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "N");
	wait_done(f);
	health_failed(h, HEALTH_CONNECT, ECONNREFUSED, "", monotonic_coarse_ms());
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

/* The client has gone. */
static void test_client_leaves(void **state)
{
	struct fixture *f = *state;

	hurry();
	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	dial_free(f->dial);
	assert_closed(f, 0);
	assert_closed(f, 1);
	assert_int_equal(f->done, 0);
	assert_int_equal(health_of(f, "a").failed, 0);
}

/*
 * It has gone when the upstream had had its time. To see it fail: do not call place_judge_silence()
 * in walk_judge().
 */
static void test_client_leaves_late(void **state)
{
	struct fixture *f = *state;

	walk_times.answer_ms = 20;
	group_of(f, 1, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	pass_ms(f, walk_times.answer_ms + 10);
	dial_free(f->dial);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
}

/* The relay ends, so its dials do. To see it fail: call walk_judge() in dial_abandon(). */
static void test_relay_ends(void **state)
{
	struct fixture *f = *state;

	walk_times.answer_ms = 20;
	group_of(f, 1, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	pass_ms(f, walk_times.answer_ms + 10);
	dial_abandon(f->dial);
	assert_closed(f, 0);
	assert_int_equal(f->done, 0);
	assert_int_equal(health_of(f, "a").failed, 0);
}

/* The prepared socket is used if its family fits, and closed otherwise. */
static void test_prepared_socket(void **state)
{
	struct fixture *f = *state;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	group_of(f, 1, UPSTREAM_TCP);
	f->set = make_upstreams("all", NULL);
	start_with(f, fd, AF_INET);
	wait_done(f);
	assert_int_equal(f->result.fd, fd);
	assert_through(f, "a", 0);
	close(TAKE_FD(f->server[0]));
	start_with(f, socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), AF_INET6);
	wait_done(f);
	assert_through(f, "a", 0);
}

/*
 * Without a descriptor for the second attempt the first one goes on, and the second one is no
 * failure of its upstream. To see it fail: count ATTEMPT_LOCAL as a failure.
 */
static void test_no_descriptor_for_the_second(void **state)
{
	struct fixture *f = *state;
	struct rlimit limit, none;
	int i, last = dup(0);

	hurry();
	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	for (i = 0; (uint32_t)i < 2 * walk_times.second_ms; i++)
		pass(f);
	setrlimit(RLIMIT_NOFILE, &limit);
	close(last);
	assert_int_equal(f->done, 0);
	assert_false(accepted(f, 1));
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_int_equal(health_of(f, "b").failed, 0);
}

/* Returns a socket that can be bound to an address that is in use, bound to *addr. */
static int bind_shared(struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(*addr);
	const int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	return fd;
}

/*
 * What is wrong on this host is the error of the dial. It says nothing about the destination, and
 * nothing about the upstream. To see it fail: ignore walk_failure::local in end_down(), or
 * connect_error_is_local().
 */
static void test_local_error(void **state)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct fixture *f = *state;
	int other = bind_shared(&own);

	group_of(f, 1, UPSTREAM_TCP);
	f->set = make_upstreams("all", NULL);
	assert_int_equal(connect(other, (struct sockaddr *)&f->addr[0], sizeof(f->addr[0])), -1);
	start_with(f, bind_shared(&own), AF_INET);
	wait_done(f);
	close(other);
	assert_int_equal(f->result.error, EADDRNOTAVAIL);
	assert_false(f->result.refused);
	assert_int_equal(health_of(f, "a").failed, 0);
}

/*
 * An event that waits for the dial keeps the session from expiring. To see it fail: let
 * attempt_has_work() return false.
 */
static void test_work(void **state)
{
	struct fixture *f = *state;
	uint64_t end_ms = monotonic_coarse_ms() + 20000;

	group_of(f, 1, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	assert_false(dial_has_work(f->dial));
	answer(f, 0, "Y");
	while (!dial_has_work(f->dial) && monotonic_coarse_ms() < end_ms)
		usleep(1000);
	assert_true(dial_has_work(f->dial));
}

/*
 * A proxy that accepts this host, and then gives a reply that is none, serves nobody. To see it
 * fail: let health_answered() set health::consecutive to 0.
 */
static void test_broken_replies(void **state)
{
	struct fixture *f = *state;
	int i;

	add_upstream("all", UPSTREAM_SOCKS5, &f->addr[0]);
	for (i = 0; i < HEALTH_FAILURES; i++) {
		start(f);
		wait_greeted(f, 0, "HI\n");
		answer(f, 0, "A");
		while (!health_of(f, "all").state)
			pass(f);
		answer(f, 0, "P");
		wait_done(f);
	}
	assert_int_equal(health_of(f, "all").state, HEALTH_DOWN);
	assert_int_equal(health_of(f, "all").failed, HEALTH_FAILURES);
	start(f);
	assert_int_equal(f->done, 1);
	assert_string_equal(f->why, "it is down");
}

/* A PROXY header goes first, in one segment with what follows. The answer acknowledges both. */
static void test_header_before_handshake(void **state)
{
	struct fixture *f = *state;

	add_upstream("all", UPSTREAM_SOCKS5, &f->addr[0])->proxy_header = PROXY_HEADER_V2;
	start(f);
	wait_greeted(f, 0, "PROXY\nHI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "all", 0);
	assert_has_nagle(f, true);
}

/* To see it fail: call set_no_delay() for no handshake that ends with the relay's own word. */
static void test_header_alone(void **state)
{
	struct fixture *f = *state;

	add_upstream("all", UPSTREAM_TCP, &f->addr[0])->proxy_header = PROXY_HEADER_V2;
	start(f);
	wait_done(f);
	assert_has_nagle(f, false);
	assert_acks_late(f, true);
	assert_false(f->was_polled);
	wait_greeted(f, 0, "PROXY\n");
}

/*
 * A part of an answer is acknowledged at once: a server with Nagle's algorithm holds the rest until
 * then. To see it fail: do not acknowledge() in
 * HANDSHAKE_WAIT_READ.
 */
static void test_answer_in_parts(void **state)
{
	struct fixture *f = *state;
	uint64_t end_ms = monotonic_coarse_ms() + 20000;
	int unacked = 1;

	add_upstream("all", UPSTREAM_SOCKS5, &f->addr[0]);
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "A");
	do {
		pass(f);
		assert_int_equal(ioctl(f->server[0], SIOCOUTQ, &unacked), 0);
	} while (unacked && monotonic_coarse_ms() < end_ms);
	answer(f, 0, "Y");
	wait_done(f);
	assert_acks_late(f, false);
	assert_through(f, "all", 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_first_member_wins),
		dial_test(test_name_of_destination),
		dial_test(test_refused_connect_goes_to_the_next),
		dial_test(test_reset_in_handshake_goes_to_the_next),
		dial_test(test_end_after_answer_is_no_failure),
		dial_test(test_end_within_an_answer_is_a_failure),
		dial_test(test_refused_password_goes_to_the_next),
		dial_test(test_request_not_served_goes_to_the_next),
		dial_test(test_request_not_served_does_not_wait),
		dial_test(test_request_not_served_is_not_repeated),
		dial_test(test_refused_destination_is_the_end),
		dial_test(test_refusal_is_a_success),
		dial_test(test_client_leaves),
		dial_test(test_client_leaves_late),
		dial_test(test_relay_ends),
		dial_test(test_prepared_socket),
		dial_test(test_no_descriptor_for_the_second),
		dial_test(test_local_error),
		dial_test(test_work),
		dial_test(test_broken_replies),
		dial_test(test_header_before_handshake),
		dial_test(test_header_alone),
		dial_test(test_answer_in_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
