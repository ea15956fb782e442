/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Dials without a session, for tests (proxy/upstream/dial.h). The servers are sockets of the test
 * on loopback. The protocol and the resolver are those of this file. teardown() checks that no
 * descriptor is left. Included by one file of each test program.
 */
#ifndef TPROXY_DIALS_H
#define TPROXY_DIALS_H

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

#include "loop.h"
#include "monotonic.h"
#include "parse.h"
#include "upstream/checks.h"
#include "upstream/dial.h"
#include "upstream/handshake.h"
#include "upstream/resolver.h"
#include "upstream/walk.h"
#include "upstreams.h"
#include "util.h"

/*
 * The relay says "HI\n". The upstream answers with one byte: Y, N (refuses the destination), X
 * (does not serve the request) or P (refuses the password). A before that says that it is at work,
 * H is a part of an answer.
 */
static struct handshake_target last_target;

static inline enum handshake_result greet(void *state, const struct handshake_target *target,
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
	case 'H':
		io->partial = true;
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

static inline enum handshake_result announce(void *state, const struct handshake_target *target,
					     struct handshake_io *io)
{
	memcpy(io->out, "PROXY\n", io->out_len = 6);
	return HANDSHAKE_DONE;
}

/* In place of the program's protocols. */
const struct handshake_ops socks5_ops = { .name = "fake", .answers_first = true, .step = greet };

const struct handshake_ops http_connect_ops = { .name = "fake", .step = greet };

const struct handshake_ops proxy_header_ops = { .name = "header",
						.one_way = true,
						.step = announce };

/* In place of the program's resolver: what it knows of any name. */
static struct {
	int state; /* see resolved_state() */
	size_t n;
	union sockaddr_any addresses[4];
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

#define SERVERS	    6
#define DESTINATION 2 /* the server that is the destination too */

static const char *const names[SERVERS] = { "a", "b", "c", "d", "e", "f" };

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

static inline int count_descriptors(void)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	return n;
}

static inline int listen_at(struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	return fd;
}

static inline int listen_on(struct sockaddr_in *addr)
{
	addr->sin_family = AF_INET;
	addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return listen_at(addr);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2], i;

	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	/* Long, so that a busy machine starts no second attempt; hurry() shortens them. */
	walk_times = (struct walk_times){
		.second_ms = 20000,
		.answer_ms = 20000,
		.trial_ms = 20000,
	};
	dial_times = (struct dial_times){ .wait_ms = 50, .resolve_ms = 5 };
	memset(&resolver, 0, sizeof(resolver));
	f->descriptors = count_descriptors();
	f->base = event_base_new();
	for (i = 0; i < SERVERS; i++) {
		f->listener[i] = listen_on(&f->addr[i]);
		f->server[i] = -1;
	}
	f->dst = f->addr[DESTINATION];
	f->dst_addr.in = f->dst;
	f->client_addr.in = f->dst;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f->client = pair[0];
	f->peer = pair[1];
	f->result.fd = -1;
	*state = f;
	return 0;
}

static inline void close_server(struct fixture *f, int i)
{
	if (f->listener[i] >= 0)
		close(TAKE_FD(f->listener[i]));
	if (f->server[i] >= 0)
		close(TAKE_FD(f->server[i]));
}

static inline int teardown(void **state)
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
static inline struct upstream_conf *group_of(struct fixture *f, size_t n, enum upstream_type type)
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

static inline void on_done(void *data, const struct dial_result *result)
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

static inline void start_with(struct fixture *f, int fd, sa_family_t family)
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
static inline void start(struct fixture *f)
{
	if (!f->set)
		f->set = make_upstreams("all", NULL);
	start_with(f, -1, AF_INET);
}

/* Has the second attempt start soon. */
static inline void hurry(void)
{
	walk_times.second_ms = 60;
}

static inline void pass(struct fixture *f)
{
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	usleep(1000);
}

static inline void pass_ms(struct fixture *f, uint64_t ms)
{
	uint64_t end_ms = monotonic_coarse_ms() + ms;

	while (monotonic_coarse_ms() < end_ms)
		pass(f);
}

/* Waits until the dial is done. */
static inline void wait_done(struct fixture *f)
{
	loop_until(f->base, f->done);
	assert_int_equal(f->done, 1);
}

static inline bool accepted(struct fixture *f, int i)
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
static inline void wait_greeted(struct fixture *f, int i, const char *text)
{
	char got[64] = "";

	loop_until(f->base, accepted(f, i));
	loop_until(f->base, recv(f->server[i], got, sizeof(got) - 1, 0) >= 0);
	assert_string_equal(got, text);
}

static inline void answer(struct fixture *f, int i, const char *text)
{
	assert_int_equal(send(f->server[i], text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static inline struct upstream *find(struct fixture *f, const char *name)
{
	struct upstream *u = upstreams_find(f->set, upstream_id(name));

	assert_non_null(u);
	return u;
}

static inline struct health_snapshot health_of(struct fixture *f, const char *name)
{
	struct health_snapshot s;

	health_read(&find(f, name)->health, &s);
	return s;
}

/* Waits until so many dials of the upstream have failed. */
static inline void wait_failures(struct fixture *f, const char *name, unsigned int n)
{
	loop_until(f->base, health_of(f, name).failed >= n);
}

/* The dial succeeded through the upstream, and bytes pass to its server i. */
static inline void assert_through(struct fixture *f, const char *name, int i)
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

/* Server i accepts the greeting, and the dial succeeds through the upstream. */
static inline void complete(struct fixture *f, int i, const char *name)
{
	wait_greeted(f, i, "HI\n");
	answer(f, i, "Y");
	wait_done(f);
	assert_through(f, name, i);
}

/* The server's connection was closed or reset by the relay. */
static inline void assert_closed(struct fixture *f, int i)
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

/* The same, while the dial goes on. */
static inline void assert_closed_by(struct fixture *f, int i)
{
	struct pollfd fd = { .fd = f->server[i], .events = POLLIN };
	uint64_t end_ms = monotonic_coarse_ms() + 20000;

	while (poll(&fd, 1, 0) == 0 && monotonic_coarse_ms() < end_ms)
		pass(f);
	assert_closed(f, i);
}

/* The upstream is down for the time of the test. */
static inline void bring_down_for_now(struct fixture *f, const char *name)
{
	struct health *h = &find(f, name)->health;
	int i;

	for (i = 0; i < HEALTH_FAILURES; i++)
		health_failed(h, HEALTH_CONNECT, ECONNREFUSED, "", monotonic_coarse_ms());
	atomic_store(&h->retry_ms, monotonic_coarse_ms() + 60000);
}

/* The upstream "a" is down, and its back-off is over. */
static inline void bring_down(struct fixture *f)
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
static inline void start_trial(struct fixture *f, enum upstream_type type, uint32_t trial_ms,
			       uint32_t answer_ms)
{
	walk_times.trial_ms = trial_ms;
	walk_times.answer_ms = answer_ms;
	group_of(f, 1, type);
	f->set = make_upstreams("all", NULL);
	bring_down(f);
	start(f);
	wait_greeted(f, 0, "HI\n");
}

#define QUEUE 2

static inline void close_all(const int clients[QUEUE])
{
	int i;

	for (i = 0; i < QUEUE; i++)
		close(clients[i]);
}

/* Fills the backlog of server i: it answers no further SYN. */
static inline void fill_tcp_backlog(struct fixture *f, int i, int clients[QUEUE])
{
	int n;

	assert_int_equal(listen(f->listener[i], 0), 0);
	for (n = 0; n < QUEUE; n++) {
		clients[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(clients[n], (struct sockaddr *)&f->addr[i], sizeof(f->addr[i]));
	}
}

static inline void wait_trial_over(struct fixture *f)
{
	uint64_t end_ms = monotonic_coarse_ms() + 20000;

	while (health_of(f, "a").state == HEALTH_TRYING && monotonic_coarse_ms() < end_ms)
		pass(f);
}

/* An upstream with a name that has two addresses and the port of server 0. */
static inline struct upstream_conf *add_named(struct fixture *f, const char *name,
					      const char *first, const char *second)
{
	struct upstream_conf *u = add_upstream(name, UPSTREAM_SOCKS5, NULL);

	strcpy(u->host, "proxy.example.org");
	u->port = ntohs(f->addr[0].sin_port);
	assert_int_equal(parse_endpoint(first, &resolver.addresses[0]), 0);
	assert_int_equal(parse_endpoint(second, &resolver.addresses[1]), 0);
	resolver.n = 2;
	return u;
}

static inline struct sockaddr_in beside(const struct fixture *f)
{
	struct sockaddr_in addr = f->addr[0];

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
	return addr;
}

#define dial_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
