// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/upstream/walk.c: UNIX sockets, and a backlog that is full. */
#include "dials.h"

/* Puts a UNIX socket in the place of server 0. remove_unix() removes it. */
static void listen_unix(struct fixture *f, struct upstream_conf *u, int backlog)
{
	char dir[] = "/tmp/tproxy-dial-XXXXXX";

	assert_non_null(mkdtemp(dir));
	u->addr.un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(u->addr.un.sun_path, sizeof(u->addr.un.sun_path), "%s/socket", dir);
	close(f->listener[0]);
	f->listener[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->listener[0], &u->addr.sa, sizeof(u->addr.un)), 0);
	assert_int_equal(listen(f->listener[0], backlog), 0);
}

static void remove_unix(struct fixture *f, const char *name)
{
	char *path = find(f, name)->conf.addr.un.sun_path;

	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
}

static void test_unix_socket(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *u = add_upstream("all", UPSTREAM_SOCKS5, NULL);

	listen_unix(f, u, 8);
	f->set = make_upstreams("all", NULL);
	start_with(f, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), AF_INET);
	complete(f, 0, "all");
	assert_false(f->result.is_tcp);
	remove_unix(f, "all");
}

/* Puts a UNIX socket whose backlog is full in the place of server 0; clients gets who is in it. */
static void fill_backlog(struct fixture *f, struct upstream_conf *u, int clients[QUEUE])
{
	int i, r = 0;

	listen_unix(f, u, 0);
	for (i = 0; i < QUEUE; i++) {
		clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		r = connect(clients[i], &u->addr.sa, sizeof(u->addr.un));
	}
	assert_int_equal(r, -1);
	assert_int_equal(errno, EAGAIN);
}

static void empty_backlog(struct fixture *f, const char *name, int clients[QUEUE])
{
	close_all(clients);
	remove_unix(f, name);
}

/*
 * A full backlog is waited for, and is no failure: neither of a dial nor of a check. To see it
 * fail: let connect_failed() handle EAGAIN.
 */
static void test_full_backlog(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *u = add_upstream("all", UPSTREAM_SOCKS5, NULL);
	struct checks *checks;
	int clients[QUEUE], i;

	u->check_interval_ms = 20;
	fill_backlog(f, u, clients);
	f->set = make_upstreams("all", NULL);
	start(f);
	checks = checks_new(f->base, f->set, /* marks= */ NULL);
	for (i = 0; i < 150; i++)
		pass(f);
	checks_free(checks);
	assert_int_equal(f->done, 0);
	assert_int_equal(health_of(f, "all").failed, 0);
	assert_true(accepted(f, 0));
	complete(f, 0, "all");
	empty_backlog(f, "all", clients);
}

/* Meanwhile the next one is dialled. To see it fail: leave attempt_is_in_queue() out. */
static void test_full_backlog_goes_to_the_next(void **state)
{
	struct fixture *f = *state;
	int clients[QUEUE], i;

	hurry();
	group_of(f, 3, UPSTREAM_SOCKS5);
	fill_backlog(f, &upstreams_conf.list[0], clients);
	f->set = make_upstreams("all", NULL);
	for (i = 0; i < HEALTH_FAILURES; i++) {
		start(f);
		complete(f, 1, "b");
	}
	/* With a third one left, it gives way after answer_ms. */
	walk_times.answer_ms = 100;
	start(f);
	wait_greeted(f, 2, "HI\n");
	dial_expire(f->dial);
	assert_int_equal(health_of(f, "a").failed, 0);
	empty_backlog(f, "a", clients);
}

/*
 * Nor is it one at the end of the session's time, or of a trial, which makes room for another one.
 * To see it fail: leave attempt_is_in_queue() out of place_judge_silence(), or of on_trial_timer().
 */
static void test_full_backlog_in_trial(void **state)
{
	struct fixture *f = *state;
	int clients[QUEUE];

	walk_times.trial_ms = walk_times.answer_ms = 20;
	group_of(f, 1, UPSTREAM_SOCKS5);
	fill_backlog(f, &upstreams_conf.list[0], clients);
	f->set = make_upstreams("all", NULL);
	bring_down(f);
	start(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	wait_trial_over(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	dial_expire(f->dial);
	assert_string_equal(f->why, "its backlog is full");
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 0);
	empty_backlog(f, "a", clients);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_unix_socket),
		dial_test(test_full_backlog),
		dial_test(test_full_backlog_goes_to_the_next),
		dial_test(test_full_backlog_in_trial),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
