// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests pending clients (joining.c) whose destination is found by name, or reached by an upstream.
 */
#include "pendings.h"

/* --- names */

static void use_names(enum upstream_type type)
{
	upstreams_conf.sniff = true;
	upstreams_conf.n_sniff_ports = 1;
	upstreams_conf.sniff_ports[0] = ntohs(server_addr.sin_port);
	if (type == UPSTREAM_SOCKS5)
		add_upstream("one", type, &server_addr)->send_name = true;
	env.upstreams = make_upstreams(type == UPSTREAM_SOCKS5 ? "one" : "", NULL);
}

/* The upstream resolves the name, which the client tells only after connect(). To see it fail: do
 * not look at session::name_decides in name_pending(). */
static void test_name_decides(void **state)
{
	struct fixture *f = *state;

	use_names(UPSTREAM_SOCKS5);
	call(f, &server_addr);
	assert_answer(TPROXY_ANSWER_ACCEPT);
	assert_waits(f);
	assert_int_equal(honest(HONEST_ACCEPTED_NAME), 1);
	assert_true(TAILQ_EMPTY(&env.sessions));
}

/* The name is only for the log. To see it fail: do not set join::wants_name. */
static void test_name_is_found_later(void **state)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
	struct fixture *f = *state;
	struct session *s;

	use_names(UPSTREAM_DIRECT);
	call(f, &server_addr);
	turn(f);
	accept_server(f);
	assert_answer(TPROXY_ANSWER_TAKEN);
	say(f, f->client, f->server, request);
	s = TAILQ_FIRST(&env.sessions);
	assert_non_null(detour_of(s)->known);
	assert_string_equal(detour_of(s)->known->text, "a.example");
	close_both(f);
}

/* --- through an upstream */

static void use_socks5(void)
{
	add_upstream("one", UPSTREAM_SOCKS5, &server_addr);
	env.upstreams = make_upstreams("one", NULL);
}

/* The upstream answers the request for silent_addr with a code (RFC 1928). */
static void answer_socks5(struct fixture *f, unsigned char code)
{
	const unsigned char answer[] = { 5, code, 0, 1, 0, 0, 0, 0, 0, 0 };
	char request[32];

	turn(f);
	accept_server(f);
	assert_int_equal(recv(f->server, request, sizeof(request), MSG_DONTWAIT), 3);
	assert_int_equal(send(f->server, "\5\0", 2, 0), 2);
	turn(f);
	assert_int_equal(recv(f->server, request, sizeof(request), MSG_DONTWAIT), 10);
	assert_waits(f);
	assert_answer(TPROXY_ANSWER_NONE);
	assert_int_equal(send(f->server, answer, sizeof(answer), 0), sizeof(answer));
	turn(f);
}

static void test_upstream_joined(void **state)
{
	struct fixture *f = *state;

	use_socks5();
	call(f, &silent_addr);
	answer_socks5(f, 0);
	assert_relays(f);
	close_both(f);
}

/* To see it fail: leave out joining_tells() in dial_failed(). */
static void test_upstream_refuses(void **state)
{
	struct fixture *f = *state;

	use_socks5();
	call(f, &silent_addr);
	answer_socks5(f, 5);
	assert_answer(TPROXY_ANSWER_FAILED);
	assert_int_equal(noted, 0);
	assert_waits(f);
}

static void test_unreachable_by_upstream(void **state)
{
	struct fixture *f = *state;

	use_socks5();
	call(f, &silent_addr);
	answer_socks5(f, 4);
	assert_answer(TPROXY_ANSWER_FAILED);
	assert_int_equal(noted, 1);
}

static void test_upstream_is_silent(void **state)
{
	struct fixture *f = *state;

	use_socks5();
	env.connecting.timeout_ms = 50;
	call(f, &silent_addr);
	wait_ms(f, 150);
	assert_answer(TPROXY_ANSWER_TIMED_OUT);
	assert_int_equal(honest(HONEST_TIMED_OUT), 1);
}

/* The upstream gets no request for a client that has gone. */
static void test_cancelled_at_upstream(void **state)
{
	struct fixture *f = *state;

	use_socks5();
	call(f, &silent_addr);
	turn(f);
	accept_server(f);
	session_pending_gone(&env, &pending);
	turn(f);
	assert_int_equal(closed(f, CLOSE_CANCELLED), 1);
	assert_int_equal(honest(HONEST_CANCELLED), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pending_test(test_name_decides),
		pending_test(test_name_is_found_later),
		pending_test(test_upstream_joined),
		pending_test(test_upstream_refuses),
		pending_test(test_unreachable_by_upstream),
		pending_test(test_upstream_is_silent),
		pending_test(test_cancelled_at_upstream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
