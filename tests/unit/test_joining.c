// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/session/join.c, joining.c and opening_pending.c: how a client is joined, or not. */
#include "pendings.h"

/*
 * The destination answers at once. To see it fail: do not set half::pump in joining_take_client(),
 * or leave out the answer.
 */
static void test_joined(void **state)
{
	struct fixture *f = *state;

	call(f, &server_addr);
	turn(f);
	accept_server(f);
	assert_relays(f);
	shutdown(f->client, SHUT_WR);
	turn(f);
	assert_end(f->server);
	close(TAKE_FD(f->server));
	turn(f);
	assert_end(f->client);
	assert_int_equal(closed(f, CLOSE_DONE), 1);
}

/* The destination answers later. To see it fail: leave out half_stop() in joining_start(). */
static void test_joined_later(void **state)
{
	struct fixture *f = *state;

	slow_server = true;
	call(f, &server_addr);
	assert_true(session_pending_known(&env, &pending));
	assert_answer(TPROXY_ANSWER_NONE);
	assert_waits(f);
	turn(f);
	accept_server(f);
	assert_relays(f);
	close_both(f);
}

/*
 * The socket that was made before is the client's, and it is used once. To see it fail: leave out
 * TAKE_FD() in take_socket(), or make a socket there each time.
 */
static void test_joined_by_prepared_socket(void **state)
{
	struct fixture *f = *state;
	struct session *s;
	int fd;

	join_prepare(&env.joins, AF_INET, &env.marks, env.exempt);
	fd = env.joins.spares[TPROXY_INET];
	join_prepare(&env.joins, AF_INET, &env.marks, env.exempt);
	assert_int_equal(env.joins.spares[TPROXY_INET], fd);
	call(f, &server_addr);
	turn(f);
	accept_server(f);
	assert_relays(f);
	s = TAILQ_FIRST(&env.sessions);
	assert_int_equal(s->c2s.pump.src_fd, fd);
	assert_int_equal(env.joins.spares[TPROXY_INET], -1);
	assert_int_equal(marked, 1);
	close_both(f);
}

/*
 * This process has left the relay cgroup, and the kernel half would not see the socket join: the
 * relay accepts instead. To see it fail: do not call whoami_query() in mark().
 */
static void test_not_seen(void **state)
{
	struct fixture *f = *state;

	env.exempt = false;
	call(f, &server_addr);
	turn(f);
	assert_int_equal(marked, 2); /* when it is made, too: it may be closed unused */
	assert_answer(TPROXY_ANSWER_ACCEPT);
}

/*
 * connect() itself tells the client: no reset, and nothing is noted for the next client. To see it
 * fail: return false in joining_tells().
 */
static void test_refused(void **state)
{
	struct fixture *f = *state;

	close(f->server_listener);
	f->server_listener = -1;
	call(f, &server_addr);
	turn(f);
	assert_answer(TPROXY_ANSWER_FAILED);
	assert_waits(f);
	assert_int_equal(closed(f, CLOSE_CONNECT_FAILED), 1);
	assert_int_equal(honest(HONEST_REFUSED), 1);
	assert_int_equal(noted, 0);
}

/*
 * The client gets ECONNREFUSED in place of EHOSTUNREACH, so the error is noted. To see it fail:
 * return detour_of(s)->join in joining_tells().
 */
static void test_unknown_upstream(void **state)
{
	struct fixture *f = *state;

	conn.upstream = 0x1234;
	call(f, &server_addr);
	assert_answer(TPROXY_ANSWER_FAILED);
	assert_waits(f);
	assert_int_equal(closed(f, CLOSE_UNKNOWN_UPSTREAM), 1);
	assert_int_equal(noted, 1);
}

/* To see it fail: answer FAILED in joining_settle(). The time is that of connect(). */
static void test_timed_out(void **state)
{
	struct fixture *f = *state;

	env.connecting.timeout_ms = 50;
	call(f, &silent_addr);
	assert_true(TAILQ_FIRST(&env.sessions)->started_ms + 400 < monotonic_coarse_ms());
	wait_ms(f, 150);
	assert_answer(TPROXY_ANSWER_TIMED_OUT);
	assert_waits(f);
	assert_int_equal(closed(f, CLOSE_CONNECT_TIMEOUT), 1);
	assert_int_equal(honest(HONEST_TIMED_OUT), 1);
	assert_int_equal(noted, 0);
}

/*
 * The record names the relay itself as destination, or no port: nobody is dialled. To see it fail:
 * let has_destination() return true.
 */
static void test_no_destination(void **state)
{
	struct sockaddr_in no_port = server_addr;
	struct fixture *f = *state;

	call(f, &relay_addr);
	assert_answer(TPROXY_ANSWER_FAILED);
	assert_int_equal(closed(f, CLOSE_NO_DESTINATION), 1);
	close(TAKE_FD(f->client));
	slot.answers = 0;
	no_port.sin_port = 0;
	call(f, &no_port);
	assert_answer(TPROXY_ANSWER_FAILED);
	assert_int_equal(closed(f, CLOSE_NO_DESTINATION), 2);
}

/* The event may come twice. To see it fail: do nothing in session_pending_gone(). */
static void test_cancelled_by_event(void **state)
{
	struct fixture *f = *state;
	const struct pending other = { .slot = pending.slot, .generation = 8 };

	call(f, &silent_addr);
	session_pending_gone(&env, &other);
	assert_false(session_pending_known(&env, &other));
	assert_true(session_pending_known(&env, &pending));
	session_pending_gone(&env, &pending);
	session_pending_gone(&env, &pending);
	assert_answer(TPROXY_ANSWER_NONE);
	assert_int_equal(closed(f, CLOSE_CANCELLED), 1);
	assert_int_equal(honest(HONEST_CANCELLED), 1);
	assert_int_equal(noted, 0);
}

/* The event is lost. To see it fail: do not look at detour::join in session_probe(). */
static void test_cancelled_by_probe(void **state)
{
	struct fixture *f = *state;

	call(f, &silent_addr);
	wait_ms(f, 5);
	assert_true(session_pending_known(&env, &pending));
	slot.gone = true;
	wait_ms(f, 20);
	assert_answer(TPROXY_ANSWER_NONE);
	assert_int_equal(closed(f, CLOSE_CANCELLED), 1);
}

/*
 * The client gives up just before it would be joined: its address is not connected to. To see it
 * fail: leave out join_client_is_gone() in join_begin().
 */
static void test_gone_before_join(void **state)
{
	struct fixture *f = *state;

	slow_server = true;
	call(f, &server_addr);
	slot.gone = true;
	turn(f);
	accept_server(f);
	assert_waits(f);
	assert_reset(f->server);
	assert_int_equal(closed(f, CLOSE_CANCELLED), 1);
}

/* No socket is at the client's address, and the slot says so a moment later, or never. */
static void test_join_is_refused(void **state)
{
	struct fixture *f = *state;

	slow_server = true;
	call(f, &server_addr);
	close(TAKE_FD(f->client));
	slot.client = -1;
	turn(f);
	accept_server(f);
	assert_reset(f->server);
	assert_answer(TPROXY_ANSWER_ACCEPT);
	assert_int_equal(honest(HONEST_ACCEPTED_JOIN), 1);
}

/*
 * Another socket has the client's address by then. No byte passes, and it is reset. To see it fail:
 * return PENDING_ESTABLISHED in place of looking at slot.mute.
 */
static void test_another_client(void **state)
{
	struct fixture *f = *state;

	slow_server = slot.mute = true;
	call(f, &server_addr);
	turn(f);
	accept_server(f);
	assert_int_equal(tcp_state(f->client), TCP_ESTABLISHED);
	assert_int_equal(send(f->server, "secret", 6, 0), 6);
	assert_int_equal(send(f->client, "mine", 4, 0), 4);
	turn(f);
	assert_open(f->client);
	assert_open(f->server);
	slot.gone = true;
	wait_ms(f, 150);
	assert_reset(f->client);
	assert_reset(f->server);
	assert_answer(TPROXY_ANSWER_NONE);
	assert_int_equal(closed(f, CLOSE_CANCELLED), 1);
	assert_int_equal(atomic_load(&env.stats.bytes_up) + atomic_load(&env.stats.bytes_down), 0);
}

/* The slot says established a moment after our end. To see it fail: do not wait() in look(). */
static void test_established_later(void **state)
{
	struct fixture *f = *state;

	slot.mute = true;
	call(f, &server_addr);
	turn(f);
	assert_answer(TPROXY_ANSWER_NONE);
	slot.mute = false;
	wait_ms(f, 150);
	accept_server(f);
	assert_relays(f);
	close_both(f);
}

/* The slot never says so. The session ends without a reason: the client is accepted instead. */
static void test_never_established(void **state)
{
	struct fixture *f = *state;
	int i;

	slot.mute = true;
	join_limit_ms = 30;
	call(f, &server_addr);
	wait_ms(f, 250);
	assert_answer(TPROXY_ANSWER_ACCEPT);
	assert_int_equal(honest(HONEST_ACCEPTED_JOIN), 1);
	assert_int_equal(atomic_load(&env.stats.accepted), 0);
	for (i = 0; i < _CLOSE_REASON_MAX; i++)
		assert_int_equal(closed(f, i), 0);
}

/* This host refuses the connect(). To see it fail: answer nothing in joining_accept_instead(). */
static void test_cannot_join(void **state)
{
	struct fixture *f = *state;

	join_connect_error = EADDRNOTAVAIL;
	call(f, &server_addr);
	assert_answer(TPROXY_ANSWER_ACCEPT);
	assert_waits(f);
	assert_int_equal(honest(HONEST_ACCEPTED_JOIN), 1);
	accept_server(f);
	assert_reset(f->server);
}

/* While the join waits, the client gives up. To see it fail: do not del the event in join_free(),
 * with the address sanitizer. */
static void test_gone_during_join(void **state)
{
	struct fixture *f = *state;

	slot.mute = true;
	call(f, &server_addr);
	session_pending_gone(&env, &pending);
	wait_ms(f, 20);
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_CANCELLED), 1);
}

/*
 * The server has accepted, answered and reset before this thread looked: connect() succeeds, then
 * come data and reset. To see it fail: leave out detour::join in session_reset_by().
 */
static void test_reset_by_server_after_data(void **state)
{
	struct fixture *f = *state;
	char got[8] = "";

	slow_server = true;
	call(f, &server_addr);
	accept_server(f);
	assert_int_equal(send(f->server, "413", 3, 0), 3);
	reset(&f->server);
	turn(f);
	assert_answer(TPROXY_ANSWER_TAKEN);
	assert_int_equal(recv(f->client, got, sizeof(got), MSG_DONTWAIT), 3);
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_RESET_BY_SERVER), 1);
}

/* The client's options reach the server's socket, though keepalive began before the client was
 * there. To see it fail: leave out has_options(), or tuning_pass_options_of(). */
static void test_options(void **state)
{
	struct fixture *f = *state;
	int fd;

	slow_server = true;
	env.keepidle_s = 300;
	conn.keep_alive = 1;
	conn.keep_idle_s = 77;
	conn.keep_intvl_s = 7;
	conn.keep_probes = 3;
	call(f, &server_addr);
	turn(f);
	accept_server(f);
	fd = session_upstream_fd(TAILQ_FIRST(&env.sessions));
	assert_int_equal(sock_get_tcp(fd, TCP_KEEPIDLE), 77);
	assert_relays(f);
	assert_int_equal(sock_get_tcp(fd, TCP_KEEPIDLE), 77);
	close_both(f);
}

/* A client with options gets keepalive before an older session. To see it fail: do not look at
 * has_keepalive in env_end_new(). */
static void test_keepalive_before_older(void **state)
{
	struct fixture *f = *state;
	const union sockaddr_any nobody = {};
	struct session *older = opening_new_session(&env, -1, -1, &nobody);

	assert_non_null(older);
	note_start();
	conn.keep_alive = 1;
	call(f, &server_addr);
	turn(f);
	accept_server(f);
	assert_relays(f);
	assert_ptr_equal(env.oldest_new, older);
	session_drop(older);
	assert_null(env.oldest_new);
	close_both(f);
}

static void test_cgroup_limit(void **state)
{
	struct fixture *f = *state;

	shared.per_cgroup.max = 1;
	assert_int_equal(quota_take(&shared.per_cgroup, 0), QUOTA_TAKEN);
	call(f, &server_addr);
	quota_give(&shared.per_cgroup, 0);
	assert_answer(TPROXY_ANSWER_FAILED);
	assert_int_equal(closed(f, CLOSE_CGROUP_LIMIT), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pending_test(test_joined),
		pending_test(test_joined_later),
		pending_test(test_joined_by_prepared_socket),
		pending_test(test_not_seen),
		pending_test(test_refused),
		pending_test(test_unknown_upstream),
		pending_test(test_timed_out),
		pending_test(test_no_destination),
		pending_test(test_cancelled_by_event),
		pending_test(test_cancelled_by_probe),
		pending_test(test_gone_before_join),
		pending_test(test_join_is_refused),
		pending_test(test_another_client),
		pending_test(test_established_later),
		pending_test(test_never_established),
		pending_test(test_cannot_join),
		pending_test(test_gone_during_join),
		pending_test(test_reset_by_server_after_data),
		pending_test(test_options),
		pending_test(test_keepalive_before_older),
		pending_test(test_cgroup_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
