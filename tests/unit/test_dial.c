// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/upstream/dial.c and attempt.c: the order of attempts, the second one, what counts for
 * the health of an upstream, and the policies. The servers are sockets of the test on loopback, and
 * the protocol and the resolver are those of this file. Each test checks that no descriptor is
 * left.
 */
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "monotonic.h"
#include "parse.h"
#include "upstream/checks.h"
#include "upstream/dial.h"
#include "upstream/handshake.h"
#include "upstream/resolver.h"
#include "upstreams.h"
#include "util.h"

/*
 * The relay says "HI\n". The upstream answers with one byte: Y, N (refuses the destination), X
 * (does not serve the request) or P (refuses the password). A before that says that it is at work.
 */
static struct handshake_target last_target;

static enum handshake_result greet(void *state, const struct handshake_target *target,
				   struct handshake_io *io)
{
	last_target = *target;
	if (io->in_len == 0) {
		memcpy(io->out, "HI\n", io->out_len = 3);
		return HANDSHAKE_AGAIN;
	}
	io->taken = 1;
	switch (io->in[0]) {
	case 'A':
		io->accepted = true;
		return HANDSHAKE_AGAIN;
	case 'Y':
		return HANDSHAKE_DONE;
	case 'X':
		io->error = EPROTO;
		strcpy(io->why, "no IPv6 here");
		return HANDSHAKE_NOT_SERVED;
	case 'N':
		io->error = ENETUNREACH;
		strcpy(io->why, "not today");
		return HANDSHAKE_ERROR;
	}
	io->error = EACCES;
	strcpy(io->why, "password refused");
	return HANDSHAKE_UNUSABLE;
}

static enum handshake_result announce(void *state, const struct handshake_target *target,
				      struct handshake_io *io)
{
	memcpy(io->out, "PROXY\n", io->out_len = 6);
	io->more = true;
	return HANDSHAKE_DONE;
}

/* In place of the program's protocols. */
const struct handshake_ops socks5_ops = { .name = "fake", .answers_first = true, .step = greet };
const struct handshake_ops http_connect_ops = { .name = "fake", .step = greet };
const struct handshake_ops proxy_header_ops = { .name = "header", .step = announce };

/* In place of the program's resolver: what it knows of any name. */
static struct {
	int state; /* see resolved_state() */
	size_t n;
	union sockaddr_any addresses[2];
} resolver;

struct resolved *resolver_add(struct resolver *r, const char *host)
{
	return (struct resolved *)&resolver;
}

void resolver_remove(struct resolver *r, struct resolved *resolved)
{
}

size_t resolved_addresses(struct resolved *resolved, union sockaddr_any *ret, size_t max)
{
	const size_t n = resolver.n < max ? resolver.n : max;

	memcpy(ret, resolver.addresses, n * sizeof(ret[0]));
	return n;
}

int resolved_state(struct resolved *resolved, uint64_t *ret_age_ms)
{
	*ret_age_ms = 0;
	return resolver.state;
}

const char *resolver_error_text(int error)
{
	return strerror(-error);
}

#define SERVERS 3

static const char *const names[SERVERS] = { "a", "b", "c" };

struct fixture {
	struct event_base *base;
	struct sockaddr_in addr[SERVERS], dst;
	int listener[SERVERS]; /* -1: the port is closed */
	int server[SERVERS];   /* the last connection that was accepted, or -1 */
	int client, peer;      /* a pair in place of the client's connection */
	union sockaddr_any client_addr, dst_addr;
	const char *name; /* of the destination */
	struct upstreams *set;
	struct dial *dial;
	int done; /* calls of the callback */
	struct dial_result result;
	bool was_polled; /* the dial's event waited for result.fd when it was done */
	char why[256];
	int descriptors;
};

static int count_descriptors(void)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	return n;
}

static int listen_at(struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	return fd;
}

static int listen_on(struct sockaddr_in *addr)
{
	addr->sin_family = AF_INET;
	addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return listen_at(addr);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2], i;

	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	/* Long, so that a busy machine starts no second attempt; hurry() shortens them. */
	dial_times = (struct dial_times){
		.second_ms = 20000,
		.answer_ms = 20000,
		.wait_ms = 50,
		.resolve_ms = 5,
		.trial_ms = 20000,
	};
	memset(&resolver, 0, sizeof(resolver));
	f->descriptors = count_descriptors();
	f->base = event_base_new();
	for (i = 0; i < SERVERS; i++) {
		f->listener[i] = listen_on(&f->addr[i]);
		f->server[i] = -1;
	}
	f->dst = f->addr[SERVERS - 1];
	f->dst_addr.in = f->dst;
	f->client_addr.in = f->dst;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f->client = pair[0];
	f->peer = pair[1];
	f->result.fd = -1;
	*state = f;
	return 0;
}

static void close_server(struct fixture *f, int i)
{
	if (f->listener[i] >= 0)
		close(TAKE_FD(f->listener[i]));
	if (f->server[i] >= 0)
		close(TAKE_FD(f->server[i]));
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int i;

	dial_free(f->dial);
	assert_null(f->dial);
	for (i = 0; i < SERVERS; i++)
		close_server(f, i);
	if (f->result.fd >= 0)
		close(f->result.fd);
	close(f->client);
	close(f->peer);
	upstreams_unref(f->set);
	event_base_free(f->base);
	assert_int_equal(count_descriptors(), f->descriptors);
	free(f);
	return 0;
}

/* A group "all" of the first n servers, with the type of its members. */
static struct upstream_conf *group_of(struct fixture *f, size_t n, enum upstream_type type)
{
	struct upstream_conf *group;
	size_t i;

	for (i = 0; i < n; i++)
		add_upstream(names[i], type, &f->addr[i]);
	group = add_upstream("all", UPSTREAM_GROUP, NULL);
	group->n_members = n;
	for (i = 0; i < n; i++)
		strcpy(group->members[i].name, names[i]);
	return group;
}

static void on_done(void *data, const struct dial_result *result)
{
	struct fixture *f = data;

	/* The owner's pointer must be usable no more. */
	assert_null(f->dial);
	f->done++;
	f->result = *result;
	f->was_polled = result->event && event_get_fd(result->event) == result->fd &&
			event_pending(result->event, EV_READ, NULL);
	snprintf(f->why, sizeof(f->why), "%s", result->why ? result->why : "");
}

static void start_with(struct fixture *f, int fd, sa_family_t family)
{
	const struct dial_request request = {
		.base = f->base,
		.set = f->set,
		.upstream = f->set->by_default,
		.dst = &f->dst_addr,
		.client = &f->client_addr,
		.name = f->name,
		.client_fd = f->client,
		.fd = fd,
		.family = family,
		.exempt = true,
		.done = on_done,
		.data = f,
	};

	if (f->result.fd >= 0)
		close(f->result.fd);
	f->done = 0;
	f->result = (struct dial_result){ .fd = -1 };
	dial_start(&request, &f->dial);
}

/* Starts a dial through the group, or through the only upstream. */
static void start(struct fixture *f)
{
	if (!f->set)
		f->set = make_upstreams("all", NULL);
	start_with(f, -1, AF_INET);
}

/* The usual time of an upstream: longer than any test, and short. */
#define SLOW_US UINT64_C(60000000)
#define FAST_US UINT64_C(1000)

/* Has the second attempt start soon. */
static void hurry(void)
{
	dial_times.second_ms = 60;
}

static void pass(struct fixture *f)
{
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	usleep(1000);
}

/* Waits until the dial is done. */
static void wait_done(struct fixture *f)
{
	uint64_t end_ms = monotonic_coarse_ms() + 20000;

	while (!f->done && monotonic_coarse_ms() < end_ms)
		pass(f);
	assert_int_equal(f->done, 1);
}

static bool accepted(struct fixture *f, int i)
{
	int fd = accept4(f->listener[i], NULL, NULL, SOCK_NONBLOCK);

	if (fd < 0)
		return false;
	if (f->server[i] >= 0)
		close(f->server[i]);
	f->server[i] = fd;
	return true;
}

/* Waits until server i has got the greeting @text. */
static void wait_greeted(struct fixture *f, int i, const char *text)
{
	uint64_t end_ms = monotonic_coarse_ms() + 20000;
	char got[64] = "";
	ssize_t n = -1;

	while (!accepted(f, i) && monotonic_coarse_ms() < end_ms)
		pass(f);
	while (n < 0 && monotonic_coarse_ms() < end_ms) {
		pass(f);
		n = recv(f->server[i], got, sizeof(got) - 1, 0);
	}
	assert_string_equal(got, text);
}

static void answer(struct fixture *f, int i, const char *text)
{
	assert_int_equal(send(f->server[i], text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static struct upstream *find(struct fixture *f, const char *name)
{
	struct upstream *u = upstreams_find(f->set, upstream_id(name));

	assert_non_null(u);
	return u;
}

static struct health_snapshot health_of(struct fixture *f, const char *name)
{
	struct health_snapshot s;

	health_read(&find(f, name)->health, &s);
	return s;
}

/* Waits until so many dials of the upstream have failed. */
static void wait_failures(struct fixture *f, const char *name, unsigned int n)
{
	uint64_t end_ms = monotonic_coarse_ms() + 20000;

	while (health_of(f, name).failed < n && monotonic_coarse_ms() < end_ms)
		pass(f);
	assert_true(health_of(f, name).failed >= n);
}

/* The dial succeeded through the upstream, and bytes pass to its server i. */
static void assert_through(struct fixture *f, const char *name, int i)
{
	struct pollfd fd = { .events = POLLIN };
	char byte = 0;

	assert_true(f->result.fd >= 0);
	assert_string_equal(f->result.upstream->conf.name, name);
	assert_int_equal(send(f->result.fd, "x", 1, 0), 1);
	while (f->server[i] < 0 && accepted(f, i))
		;
	fd.fd = f->server[i];
	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(recv(f->server[i], &byte, 1, 0), 1);
	assert_int_equal(byte, 'x');
}

/* The server's connection was closed or reset by the relay. */
static void assert_closed(struct fixture *f, int i)
{
	struct pollfd fd = { .fd = f->server[i], .events = POLLIN };
	char bytes[64];
	ssize_t n;

	do {
		assert_int_equal(poll(&fd, 1, 10000), 1);
		n = recv(f->server[i], bytes, sizeof(bytes), 0);
	} while (n > 0);
	assert_true(n == 0 || errno == ECONNRESET);
}

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
 * handshake_is_in_answer(); leave out acks_late, or event, in win().
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
	wait_greeted(f, 1, "HI\n");
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
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
		wait_greeted(f, 1, "HI\n");
		answer(f, 1, "Y");
		wait_done(f);
		assert_through(f, "b", 1);
	}
	assert_int_equal(health_of(f, "a").failed, 0);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

static void test_refused_password_goes_to_the_next(void **state)
{
	struct fixture *f = *state;

	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "P");
	wait_greeted(f, 1, "HI\n");
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
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
		wait_greeted(f, 1, "HI\n");
		answer(f, 1, "Y");
		wait_done(f);
		assert_through(f, "b", 1);
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
	wait_greeted(f, 1, "HI\n");
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
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
 * The first upstream accepts and is silent. After a while the second one is dialled beside it, and
 * wins: the first is closed, and counts as failed. To see it fail: set no timer in
 * set_attempt_timer(); do not call judge_loser().
 */
static void test_second_dial_wins(void **state)
{
	struct fixture *f = *state;
	uint64_t start_ms = monotonic_coarse_ms();

	hurry();
	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	assert_true(monotonic_coarse_ms() - start_ms + 10 >= dial_times.second_ms);
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
	assert_closed(f, 0);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
}

/* Lets the upstream "b" win against "a", whose dials usually take that long. */
static void win_against(struct fixture *f, uint64_t usual_us)
{
	uint64_t end_ms;

	hurry();
	group_of(f, 2, UPSTREAM_SOCKS5);
	f->set = make_upstreams("all", NULL);
	health_succeeded(&find(f, "a")->health, usual_us, monotonic_coarse_ms());
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	/* Longer than twice the time of a fast one, and 10 ms for the resolution of the clock. */
	end_ms = monotonic_coarse_ms() + dial_times.second_ms + 2 * FAST_US / 1000 + 10;
	while (monotonic_coarse_ms() < end_ms)
		pass(f);
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
}

/* To see it fail: compare with 0 in place of usual_us in judge_loser(). */
static void test_slow_one_may_lose(void **state)
{
	win_against(*state, SLOW_US);
	assert_int_equal(health_of(*state, "a").failed, 0);
}

/* To see it fail: let judge_loser() return whenever there is a usual time. */
static void test_fast_one_may_not_lose(void **state)
{
	win_against(*state, FAST_US);
	assert_int_equal(health_of(*state, "a").failures[HEALTH_TIMEOUT], 1);
}

/* The first one answers after the second one has begun, and wins. That is no failure of either. */
static void test_first_dial_wins_late(void **state)
{
	struct fixture *f = *state;

	hurry();
	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_closed(f, 1);
	assert_int_equal(health_of(f, "a").failed, 0);
	assert_int_equal(health_of(f, "b").failed, 0);
}

/*
 * All are down: the dial fails with the stated errno, and dials nobody. To see it fail: ignore
 * HEALTH_REFUSED in next_place().
 */
static void test_all_down(void **state)
{
	struct fixture *f = *state;
	int i;

	group_of(f, 2, UPSTREAM_TCP)->down_error = EHOSTUNREACH;
	close(TAKE_FD(f->listener[0]));
	close(TAKE_FD(f->listener[1]));
	for (i = 0; i < HEALTH_FAILURES; i++) {
		start(f);
		wait_done(f);
		assert_int_equal(f->result.error, EHOSTUNREACH);
		assert_true(f->result.refused);
		assert_string_equal(f->why, "Connection refused");
	}
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	assert_int_equal(health_of(f, "b").state, HEALTH_DOWN);
	start(f);
	wait_done(f);
	assert_int_equal(f->result.error, EHOSTUNREACH);
	assert_string_equal(f->why, "all of its members are down");
	assert_string_equal(f->result.upstream->conf.name, "all");
	assert_int_equal(health_of(f, "a").dials, HEALTH_FAILURES);
}

/* One that is down gets one dial after its back-off; others do not wait for it. */
static void test_trial(void **state)
{
	struct fixture *f = *state;
	struct dial *trial;
	struct health *h;
	int i;

	group_of(f, 2, UPSTREAM_SOCKS5);
	f->set = make_upstreams("all", NULL);
	h = &find(f, "a")->health;
	for (i = 0; i < HEALTH_FAILURES; i++)
		health_failed(h, HEALTH_CONNECT, ECONNREFUSED, "", monotonic_coarse_ms());
	atomic_store(&h->retry_ms, monotonic_coarse_ms());
	start(f);
	wait_greeted(f, 0, "HI\n");
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	/* Its owner's pointer is elsewhere now: the trial must not end before the next dial does.
	 */
	trial = f->dial;
	f->dial = NULL;
	start(f);
	wait_greeted(f, 1, "HI\n");
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
	f->dial = trial;
	dial_free(trial);
	f->dial = NULL;
	/* Given up: the next dial tries again. */
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

/* The upstream is down for the time of the test. */
static void bring_down_for_now(struct fixture *f, const char *name)
{
	struct health *h = &find(f, name)->health;
	int i;

	for (i = 0; i < HEALTH_FAILURES; i++)
		health_failed(h, HEALTH_CONNECT, ECONNREFUSED, "", monotonic_coarse_ms());
	atomic_store(&h->retry_ms, monotonic_coarse_ms() + 60000);
}

/* The upstream "a" is down, and its back-off is over. */
static void bring_down(struct fixture *f)
{
	bring_down_for_now(f, "a");
	atomic_store(&find(f, "a")->health.retry_ms, monotonic_coarse_ms());
}

/* Longer than any test. */
#define NEVER_MS 20000

/*
 * Begins a trial of upstream "a", which was down, and reads its greeting. Only the test's own
 * limits of time may end it, however busy the machine is.
 */
static void start_trial(struct fixture *f, enum upstream_type type, uint32_t trial_ms,
			uint32_t answer_ms)
{
	dial_times.trial_ms = trial_ms;
	dial_times.answer_ms = answer_ms;
	group_of(f, 1, type);
	f->set = make_upstreams("all", NULL);
	bring_down(f);
	start(f);
	wait_greeted(f, 0, "HI\n");
}

#define QUEUE 2

static void close_all(const int clients[QUEUE])
{
	int i;

	for (i = 0; i < QUEUE; i++)
		close(clients[i]);
}

/* Fills the backlog of server i: it answers no further SYN. */
static void fill_tcp_backlog(struct fixture *f, int i, int clients[QUEUE])
{
	int n;

	assert_int_equal(listen(f->listener[i], 0), 0);
	for (n = 0; n < QUEUE; n++) {
		clients[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(clients[n], (struct sockaddr *)&f->addr[i], sizeof(f->addr[i]));
	}
}

static void wait_trial_over(struct fixture *f)
{
	uint64_t end_ms = monotonic_coarse_ms() + 20000;

	while (health_of(f, "a").state == HEALTH_TRYING && monotonic_coarse_ms() < end_ms)
		pass(f);
}

/*
 * The destination of the trial is silent, but the upstream is at work: others may use it at once.
 * To see it fail: do not set attempt::on_accepted.
 */
static void test_trial_ends_when_accepted(void **state)
{
	struct fixture *f = *state;

	start_trial(f, UPSTREAM_SOCKS5, NEVER_MS, NEVER_MS);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	answer(f, 0, "A");
	wait_trial_over(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
	assert_int_equal(f->done, 0);
	dial_free(f->dial);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

/*
 * A protocol without an answer of its own: after trial_ms the next dial is a trial too, and only
 * one. To see it fail: set no timer in set_trial_timer().
 */
static void test_silent_trial_makes_room(void **state)
{
	struct fixture *f = *state;
	struct dial *silent, *second;
	int kept;

	start_trial(f, UPSTREAM_HTTP, 20, NEVER_MS);
	wait_trial_over(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	assert_int_equal(f->done, 0);
	silent = f->dial;
	kept = TAKE_FD(f->server[0]);
	dial_times.trial_ms = NEVER_MS;
	start(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	wait_greeted(f, 0, "HI\n");
	/* The end of the first one leaves the second trial alone. */
	second = f->dial;
	dial_free(silent);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	f->dial = second;
	close(kept);
}

/* The silence of a protocol that answers first is the upstream's: nobody joins the trial. */
static void test_unanswered_trial_makes_no_room(void **state)
{
	struct fixture *f = *state;
	int i;

	start_trial(f, UPSTREAM_SOCKS5, 5, NEVER_MS);
	for (i = 0; i < 30; i++)
		pass(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
}

/*
 * It does not hold the trial for the whole dial: after answer_ms the trial has failed. The attempt
 * goes on, and its late answer counts. To see it fail: do not call judge_silence() in
 * on_trial_timer().
 */
static void test_unanswered_trial_fails(void **state)
{
	struct fixture *f = *state;

	start_trial(f, UPSTREAM_SOCKS5, 5, 20);
	wait_trial_over(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
	assert_int_equal(f->done, 0);
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

static void test_when_down_direct(void **state)
{
	struct fixture *f = *state;

	group_of(f, 2, UPSTREAM_TCP)->when_down = UPSTREAM_DOWN_DIRECT;
	close_server(f, 0);
	close_server(f, 1);
	start(f);
	wait_done(f);
	assert_through(f, "direct", 2);
}

/* The destination's own error is told then. */
static void test_when_down_direct_fails_too(void **state)
{
	struct fixture *f = *state;

	group_of(f, 1, UPSTREAM_TCP)->when_down = UPSTREAM_DOWN_DIRECT;
	close_server(f, 0);
	close_server(f, 2);
	upstreams_conf.list[1].down_error = EACCES;
	start(f);
	wait_done(f);
	assert_int_equal(f->result.fd, -1);
	assert_int_equal(f->result.error, ECONNREFUSED);
	assert_true(f->result.refused);
}

/* To see it fail: end the dial in policy() for UPSTREAM_DOWN_WAIT too. */
static void test_when_down_wait(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group = group_of(f, 1, UPSTREAM_TCP);
	uint64_t start_ms = monotonic_coarse_ms();

	group->when_down = UPSTREAM_DOWN_WAIT;
	group->down_wait_ms = 60000;
	close_server(f, 0);
	start(f);
	while (health_of(f, "a").dials < 2 && monotonic_coarse_ms() < start_ms + 20000)
		pass(f);
	assert_int_equal(f->done, 0);
	f->listener[0] = listen_on(&f->addr[0]);
	wait_done(f);
	assert_through(f, "a", 0);
}

static void test_when_down_wait_ends(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group = group_of(f, 1, UPSTREAM_TCP);

	group->when_down = UPSTREAM_DOWN_WAIT;
	group->down_wait_ms = 100;
	close_server(f, 0);
	start(f);
	wait_done(f);
	assert_int_equal(f->result.error, ECONNREFUSED);
}

/*
 * The session's time is over. SOCKS5 answers before it connects: silence is the upstream's. To see
 * it fail: do not call judge_silence() in dial_expire().
 */
static void test_expire_unanswered(void **state)
{
	struct fixture *f = *state;

	group_of(f, 1, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	dial_expire(f->dial);
	assert_int_equal(f->done, 1);
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_true(f->result.expired);
	assert_false(f->result.refused);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
	assert_closed(f, 0);
}

/*
 * It has accepted, and the rest is the destination's: other clients are told so. To see it fail:
 * leave handshake_was_answered() out of dial_expire().
 */
static void test_expire_answered(void **state)
{
	struct fixture *f = *state;

	start_trial(f, UPSTREAM_SOCKS5, NEVER_MS, NEVER_MS);
	answer(f, 0, "A");
	wait_trial_over(f);
	dial_expire(f->dial);
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_true(f->result.refused);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 0);
}

/* So is the silence without an upstream, as with a PROXY header to the destination. */
static void test_expire_direct(void **state)
{
	struct fixture *f = *state;
	int clients[QUEUE];

	fill_tcp_backlog(f, 2, clients);
	add_upstream("all", UPSTREAM_DIRECT, NULL)->proxy_header = PROXY_HEADER_V2;
	start(f);
	assert_int_equal(f->done, 0);
	dial_expire(f->dial);
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_true(f->result.refused);
	close_all(clients);
}

/* An HTTP proxy answers when it has connected: its silence may be the destination's. */
static void test_expire_without_verdict(void **state)
{
	struct fixture *f = *state;

	group_of(f, 1, UPSTREAM_HTTP);
	start(f);
	wait_greeted(f, 0, "HI\n");
	dial_expire(f->dial);
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_int_equal(health_of(f, "a").failed, 0);
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
 * It has gone when the upstream had had its time. To see it fail: do not call judge_silence() in
 * dial_free().
 */
static void test_client_leaves_late(void **state)
{
	struct fixture *f = *state;
	uint64_t end_ms;

	dial_times.answer_ms = 20;
	group_of(f, 1, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	end_ms = monotonic_coarse_ms() + dial_times.answer_ms + 10;
	while (monotonic_coarse_ms() < end_ms)
		pass(f);
	dial_free(f->dial);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
}

static void test_unix_socket(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *u = add_upstream("all", UPSTREAM_SOCKS5, NULL);
	char dir[] = "/tmp/tproxy-dial-XXXXXX";

	assert_non_null(mkdtemp(dir));
	u->addr.un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(u->addr.un.sun_path, sizeof(u->addr.un.sun_path), "%s/socket", dir);
	close(f->listener[0]);
	f->listener[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->listener[0], &u->addr.sa, sizeof(u->addr.un)), 0);
	assert_int_equal(listen(f->listener[0], 8), 0);
	f->set = make_upstreams("all", NULL);
	start_with(f, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), AF_INET);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "all", 0);
	assert_false(f->result.is_tcp);
	unlink(find(f, "all")->conf.addr.un.sun_path);
	rmdir(dir);
}

/* Puts a UNIX socket whose backlog is full in the place of server 0; clients gets who is in it. */
static void fill_backlog(struct fixture *f, struct upstream_conf *u, int clients[QUEUE])
{
	char dir[] = "/tmp/tproxy-dial-XXXXXX";
	int i, r = 0;

	assert_non_null(mkdtemp(dir));
	u->addr.un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(u->addr.un.sun_path, sizeof(u->addr.un.sun_path), "%s/socket", dir);
	close(f->listener[0]);
	f->listener[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->listener[0], &u->addr.sa, sizeof(u->addr.un)), 0);
	assert_int_equal(listen(f->listener[0], 0), 0);
	for (i = 0; i < QUEUE; i++) {
		clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		r = connect(clients[i], &u->addr.sa, sizeof(u->addr.un));
	}
	assert_int_equal(r, -1);
	assert_int_equal(errno, EAGAIN);
}

static void empty_backlog(struct fixture *f, const char *name, int clients[QUEUE])
{
	char *path = find(f, name)->conf.addr.un.sun_path;

	close_all(clients);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
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
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "all", 0);
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
		wait_greeted(f, 1, "HI\n");
		answer(f, 1, "Y");
		wait_done(f);
		assert_through(f, "b", 1);
	}
	/* With a third one left, it gives way after answer_ms. */
	dial_times.answer_ms = 100;
	start(f);
	wait_greeted(f, 2, "HI\n");
	dial_expire(f->dial);
	assert_int_equal(health_of(f, "a").failed, 0);
	empty_backlog(f, "a", clients);
}

/*
 * Nor is it one at the end of the session's time, or of a trial, which makes room for another one.
 * To see it fail: leave attempt_is_in_queue() out of judge_silence(), or of on_trial_timer().
 */
static void test_full_backlog_in_trial(void **state)
{
	struct fixture *f = *state;
	int clients[QUEUE];

	dial_times.trial_ms = dial_times.answer_ms = 20;
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
	for (i = 0; (uint32_t)i < 2 * dial_times.second_ms; i++)
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
 * nothing about the upstream. To see it fail: ignore dial::local in policy(), or
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

/*
 * Of three silent ones, the third is dialled when the first has had its time. To see it fail: set
 * the timer to second_ms whatever runs.
 */
static void test_third_after_two_silent_ones(void **state)
{
	struct fixture *f = *state;
	uint64_t start_ms = monotonic_coarse_ms();

	hurry();
	dial_times.answer_ms = 250;
	group_of(f, 3, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	wait_greeted(f, 2, "HI\n");
	assert_true(monotonic_coarse_ms() - start_ms + 10 >= dial_times.answer_ms);
	assert_closed(f, 0);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
	answer(f, 2, "Y");
	wait_done(f);
	assert_through(f, "c", 2);
}

/*
 * The first one is an HTTP proxy, whose silence may be the destination's: the second one gives way.
 * To see it fail: do not look at the other attempt in drop_slow(), or drop the oldest in any case.
 */
static void test_third_after_one_at_work(void **state)
{
	struct fixture *f = *state;

	hurry();
	dial_times.answer_ms = 100;
	group_of(f, 3, UPSTREAM_SOCKS5);
	upstreams_conf.list[0].type = UPSTREAM_HTTP;
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	wait_greeted(f, 2, "HI\n");
	assert_closed(f, 1);
	assert_int_equal(health_of(f, "b").failures[HEALTH_TIMEOUT], 1);
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_int_equal(health_of(f, "a").failed, 0);
}

/*
 * Without a third one that may be dialled, both go on, and the late answer of the first counts. To
 * see it fail: ignore place::exhausted in is_left(), or the health of the upstream.
 */
static void none_is_given_up(struct fixture *f, size_t members)
{
	uint64_t end_ms;

	hurry();
	dial_times.answer_ms = 20;
	group_of(f, members, UPSTREAM_SOCKS5);
	f->set = make_upstreams("all", NULL);
	if (members == 3)
		bring_down_for_now(f, "c");
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	end_ms = monotonic_coarse_ms() + dial_times.answer_ms + 50;
	while (monotonic_coarse_ms() < end_ms)
		pass(f);
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_int_equal(health_of(f, "a").failed, 0);
}

static void test_no_third(void **state)
{
	none_is_given_up(*state, 2);
}

static void test_third_is_down(void **state)
{
	none_is_given_up(*state, 3);
}

/* An upstream with a name that has two addresses and the port of server 0. */
static struct upstream_conf *add_named(struct fixture *f, const char *name, const char *first,
				       const char *second)
{
	struct upstream_conf *u = add_upstream(name, UPSTREAM_SOCKS5, NULL);

	strcpy(u->host, "proxy.example.org");
	u->port = ntohs(f->addr[0].sin_port);
	assert_int_equal(parse_endpoint(first, &resolver.addresses[0]), 0);
	assert_int_equal(parse_endpoint(second, &resolver.addresses[1]), 0);
	resolver.n = 2;
	return u;
}

static struct sockaddr_in beside(const struct fixture *f)
{
	struct sockaddr_in addr = f->addr[0];

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
	return addr;
}

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
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "all", 0);
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

/* All addresses are dead: one failure. To see it fail: as above, or leave out fail_place(). */
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
 * compare the upstreams in judge_loser().
 */
static void test_second_address_wins(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in addr = beside(f);
	int other = listen_at(&addr);

	hurry();
	add_named(f, "all", "127.0.0.2:1", "127.0.0.1:1");
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "all", 0);
	assert_int_equal(health_of(f, "all").failed, 0);
	close(other);
}

/*
 * The name is not resolved yet: the dial waits for that. To see it fail: let policy() ignore
 * dial::unresolved.
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
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "all", 0);
}

/* There is no such name: the next one. To see it fail: leave out fail_place() in no_address(). */
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

/* Active checks find an upstream down and up again, without a dial. */
static void test_checks(void **state)
{
	struct fixture *f = *state;
	uint64_t end_ms = monotonic_coarse_ms() + 20000;
	struct checks *checks;

	add_upstream("all", UPSTREAM_SOCKS5, &f->addr[0])->check_interval_ms = 20;
	f->set = make_upstreams("all", NULL);
	close_server(f, 0);
	checks = checks_new(f->base, f->set, /* marks= */ NULL);
	while (health_of(f, "all").state != HEALTH_DOWN && monotonic_coarse_ms() < end_ms)
		pass(f);
	assert_int_equal(health_of(f, "all").state, HEALTH_DOWN);
	f->listener[0] = listen_on(&f->addr[0]);
	while (health_of(f, "all").state != HEALTH_UP && monotonic_coarse_ms() < end_ms)
		pass(f);
	assert_int_equal(health_of(f, "all").state, HEALTH_UP);
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
	uint64_t end_ms = monotonic_coarse_ms() + 20000;
	struct checks *checks;
	char got[64] = "";
	ssize_t n = -1;

	u->check_interval_ms = 20;
	u->proxy_header = PROXY_HEADER_V1;
	f->set = make_upstreams("all", NULL);
	checks = checks_new(f->base, f->set, /* marks= */ NULL);
	while (!accepted(f, 0) && monotonic_coarse_ms() < end_ms)
		pass(f);
	while (n < 0 && monotonic_coarse_ms() < end_ms) {
		pass(f);
		n = recv(f->server[0], got, sizeof(got) - 1, 0);
		/* A reset, if nothing was sent before. */
		if (n < 0 && errno != EAGAIN)
			break;
	}
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

#define dial_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_first_member_wins),
		dial_test(test_name_of_destination),
		dial_test(test_refused_connect_goes_to_the_next),
		dial_test(test_reset_in_handshake_goes_to_the_next),
		dial_test(test_end_after_answer_is_no_failure),
		dial_test(test_refused_password_goes_to_the_next),
		dial_test(test_request_not_served_goes_to_the_next),
		dial_test(test_request_not_served_does_not_wait),
		dial_test(test_request_not_served_is_not_repeated),
		dial_test(test_refused_destination_is_the_end),
		dial_test(test_second_dial_wins),
		dial_test(test_slow_one_may_lose),
		dial_test(test_fast_one_may_not_lose),
		dial_test(test_first_dial_wins_late),
		dial_test(test_all_down),
		dial_test(test_trial),
		dial_test(test_trial_ends_when_accepted),
		dial_test(test_silent_trial_makes_room),
		dial_test(test_unanswered_trial_makes_no_room),
		dial_test(test_unanswered_trial_fails),
		dial_test(test_when_down_direct),
		dial_test(test_when_down_direct_fails_too),
		dial_test(test_when_down_wait),
		dial_test(test_when_down_wait_ends),
		dial_test(test_expire_unanswered),
		dial_test(test_expire_answered),
		dial_test(test_expire_direct),
		dial_test(test_expire_without_verdict),
		dial_test(test_client_leaves),
		dial_test(test_client_leaves_late),
		dial_test(test_unix_socket),
		dial_test(test_full_backlog),
		dial_test(test_full_backlog_goes_to_the_next),
		dial_test(test_full_backlog_in_trial),
		dial_test(test_prepared_socket),
		dial_test(test_no_descriptor_for_the_second),
		dial_test(test_local_error),
		dial_test(test_work),
		dial_test(test_broken_replies),
		dial_test(test_header_before_handshake),
		dial_test(test_header_alone),
		dial_test(test_answer_in_parts),
		dial_test(test_third_after_two_silent_ones),
		dial_test(test_third_after_one_at_work),
		dial_test(test_no_third),
		dial_test(test_third_is_down),
		dial_test(test_addresses),
		dial_test(test_no_address_answers),
		dial_test(test_second_address_wins),
		dial_test(test_name_is_waited_for),
		dial_test(test_no_such_name),
		dial_test(test_checks),
		dial_test(test_check_of_addresses),
		dial_test(test_check_with_header),
		dial_test(test_check_without_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
