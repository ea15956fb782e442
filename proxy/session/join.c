// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See join.h. On loopback the handshake is complete when connect() returns, and the slot says so: a
 * join usually needs no event. If it is not, as when a firewall drops our SYN, the slot is looked
 * at when the socket is writable and by a timer, because the client's end is established a moment
 * after ours.
 */
#include "join.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client_sock.h"
#include "deadline.h"
#include "kernel/endpoint.h"
#include "kernel/marks.h"
#include "log.h"
#include "monotonic.h"
#include "upstream/connect.h"
#include "upstream/sock.h"
#include "util.h"
#include "whoami.h"

/* The intervals of the timer: doubled each time. */
#define WAIT_LEAST_MS 1
#define WAIT_MOST_MS  64

uint32_t join_limit_ms = 3000;

void join_table_init(struct join_table *table)
{
	size_t i;

	table->n = 0;
	for (i = 0; i < JOIN_BUCKETS; i++)
		LIST_INIT(&table->buckets[i]);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		table->spares[i] = -1;
}

void join_table_finish(struct join_table *table)
{
	size_t i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		util_closep(&table->spares[i]);
		table->spares[i] = -1;
	}
}

struct join *join_find(const struct join_table *table, const struct pending *pending)
{
	struct join *join;

	LIST_FOREACH (join, &table->buckets[pending->slot % JOIN_BUCKETS], entry) {
		if (join->pending.slot == pending->slot &&
		    join->pending.generation == pending->generation)
			return join;
	}
	return NULL;
}

bool join_client_is_gone(const struct join *join)
{
	return pending_state(join->maps, &join->pending) == PENDING_GONE;
}

void join_answer(const struct join *join, enum tproxy_answer answer)
{
	pending_answer(join->maps, &join->pending, answer);
}

static void finish(struct join *join, enum join_result result)
{
	event_del(&join->event);
	join->done(join->data, result);
}

static void on_event(evutil_socket_t fd, short what, void *arg);

/* Waits for the socket, until it is connected, and for the timer. Returns false without memory. */
static bool wait(struct join *join)
{
	const struct timeval delay = deadline_timeval(join->wait_ms);

	if (join->wait_ms < WAIT_MOST_MS)
		join->wait_ms *= 2;
	event_assign(&join->event, join->base, join->connected ? -1 : join->fd,
		     join->connected ? EV_TIMEOUT : EV_WRITE, on_event, join);
	return event_add(&join->event, &delay) == 0;
}

/* Looks at the slot. May free the join. */
static void look(struct join *join)
{
	switch (pending_state(join->maps, &join->pending)) {
	case PENDING_ESTABLISHED:
		finish(join, JOIN_DONE);
		return;
	case PENDING_GONE:
		finish(join, JOIN_GONE);
		return;
	case PENDING_WAITS:
		break;
	}
	if (monotonic_coarse_ms() - join->begun_ms >= join_limit_ms || !wait(join))
		finish(join, JOIN_FAILED);
}

/*
 * The socket cannot be made or connected. With ECONNREFUSED the client has mostly gone, and the
 * slot says so: the kernel half frees it before the port. An event that came twice may have joined
 * the client already: its answer must stay. May free the join.
 */
static void failed(struct join *join, int error)
{
	log_debug("cannot join a client whose connect() is pending: %s", strerror(error));
	finish(join, pending_state(join->maps, &join->pending) == PENDING_WAITS ? JOIN_FAILED
										: JOIN_GONE);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct join *join = arg;
	int r;

	/* An error of an established socket is the pump's to see. */
	if ((what & EV_WRITE) && pending_state(join->maps, &join->pending) != PENDING_ESTABLISHED) {
		r = connect_result(join->fd);
		if (r < 0) {
			failed(join, -r);
			return;
		}
		join->connected = true;
		join->wait_ms = WAIT_LEAST_MS;
	}
	look(join);
}

/*
 * Makes a socket, to be bound to the address and port that a client's SYN went to. SO_REUSEPORT
 * alone: SO_REUSEADDR would let any user bind that port. Returns a descriptor or -errno.
 */
static int make_socket(sa_family_t family, const struct marks *marks, bool exempt)
{
	const int on = 1;
	_cleanup_close_ int fd = -1;
	int r;

	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -errno;
	client_sock_prepare(fd);
	/* Watchers leave marked sockets out. This one may be closed unused. */
	r = exempt ? 0 : marks_set_upstream(marks, fd);
	return r < 0 ? r : TAKE_FD(fd);
}

static int family_of(sa_family_t family)
{
	return family == AF_INET6 ? TPROXY_INET6 : TPROXY_INET;
}

void join_prepare(struct join_table *table, sa_family_t family, const struct marks *marks,
		  bool exempt)
{
	int *spare = &table->spares[family_of(family)];

	/* An error shows when the socket is needed. */
	if (*spare < 0)
		*spare = make_socket(family, marks, exempt);
}

/*
 * Marks the socket: the kernel half accepts no other one for the client. It has to see the
 * connect() of this one, so the socket must belong to a cgroup that has its programs. Out of the
 * relay cgroup the mark also keeps connect4 from redirecting it. Returns 0 or -errno.
 */
static int mark(const struct join *join, int fd)
{
	struct tproxy_whoami who;
	int r = marks_set_joining(join->marks, fd, &join->conn);

	return r < 0 || join->exempt ? r : whoami_query(fd, &who);
}

/* Takes the prepared socket, or makes one, binds and marks it. Returns 0 or -errno. */
static int take_socket(struct join *join)
{
	const union sockaddr_any relay = endpoint_address(&join->conn.relay);
	int *spare = &join->table->spares[family_of(relay.sa.sa_family)];
	_cleanup_close_ int fd = TAKE_FD(*spare);
	int r;

	if (fd < 0)
		fd = make_socket(relay.sa.sa_family, join->marks, join->exempt);
	if (fd < 0)
		return fd;
	if (bind(fd, &relay.sa, sockaddr_len(&relay)) < 0)
		return -errno;
	r = mark(join, fd);
	if (r < 0)
		return r;
	join->fd = TAKE_FD(fd);
	return 0;
}

void join_begin(struct join *join)
{
	const union sockaddr_any client = endpoint_address(&join->conn.src);
	int r;

	join->begun = true;
	join->begun_ms = monotonic_coarse_ms();
	join->wait_ms = WAIT_LEAST_MS;
	r = take_socket(join);
	if (r < 0) {
		failed(join, -r);
		return;
	}
	/*
	 * Another socket may have the client's port by now: do not connect to it. This check comes
	 * last, because a socket that takes the port after it is joined, and reset.
	 */
	if (join_client_is_gone(join)) {
		finish(join, JOIN_GONE);
		return;
	}
	if (connect(join->fd, &client.sa, sockaddr_len(&client)) < 0 && errno != EINPROGRESS)
		failed(join, errno);
	else
		look(join);
}

struct join *join_new(struct join_table *table, const struct join_request *request)
{
	struct join *join = calloc(1, sizeof(*join));

	if (!join)
		return NULL;
	join->pending = *request->pending;
	join->conn = *request->conn;
	join->base = request->base;
	join->maps = request->maps;
	join->marks = request->marks;
	join->exempt = request->exempt;
	join->done = request->done;
	join->data = request->data;
	join->fd = -1;
	evtimer_assign(&join->event, join->base, on_event, join);
	join->table = table;
	table->n++;
	LIST_INSERT_HEAD(&table->buckets[join->pending.slot % JOIN_BUCKETS], join, entry);
	return join;
}

int join_take_fd(struct join *join)
{
	return TAKE_FD(join->fd);
}

void join_free(struct join *join)
{
	if (!join)
		return;
	event_del(&join->event);
	if (join->fd >= 0)
		sock_close_reset(join->fd);
	LIST_REMOVE(join, entry);
	join->table->n--;
	free(join);
}
