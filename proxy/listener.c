// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See listener.h. The socket for the other side is made before its client is accepted. So a client
 * is accepted only if both descriptors are there, and its connection waits for less.
 */
#include "listener.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "parse.h"
#include "registration.h"
#include "session.h"
#include "util.h"
#include "worker.h"

/* Clients in one go, before running sessions have their turn. */
#define ACCEPT_MAX 64
#define RESUME_MS  100
/*
 * Once in so many connections we ask whether our cgroup exempts us. Somebody may have moved us, or
 * a loader the relays' cgroup: so often at most is what we dial redirected to ourselves.
 */
#define EXEMPT_ASK 16

static int log_bind_error(const union sockaddr_any *addr, int r)
{
	char text[FORMAT_ENDPOINT_LEN];

	log_err("cannot listen on %s: %s%s", format_endpoint(addr, text), strerror(-r),
		r == -EACCES ? "; ports below 1024 need CAP_NET_BIND_SERVICE" : "");
	return r;
}

/*
 * The largest segment to and from a client. Loopback's own, of 64 KiB, does not fit into the window
 * of a client that has made its SO_RCVBUF small after connect(), and so each segment waits for a
 * timer of 200 ms. With 1460 uploads are slower by half, with this they are not.
 */
#define SEGMENT_MAX 4096

/*
 * Options that accepted sockets take from their listener. TCP_NODELAY: we write when there is
 * something to write. Reno: between two sockets of one host there is no congestion, and pacing, as
 * by a host's default of BBR, only costs; tests/bench/README.md has what. The client's socket is
 * its own.
 */
static void inherit_options(int fd)
{
	static const char congestion[] = "reno"; /* always built in */
	const int on = 1, segment = SEGMENT_MAX;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, sizeof(congestion) - 1);
	session_prepare(fd);
}

int listener_bind(struct registration *reg, const union sockaddr_any *addr, int backlog)
{
	_cleanup_close_ int fd = -1;
	const int on = 1;
	int r;

	fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return log_bind_error(addr, -errno);
	/* A port that was asked for is shared with the relay that this one replaces. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (addr->in.sin_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0) ||
	    (addr->sa.sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, &addr->sa, sockaddr_len(addr)) < 0)
		return log_bind_error(addr, -errno);
	inherit_options(fd);
	/* Before listen(), where sockops confirms the mark. */
	r = registration_mark_listener(reg, fd);
	if (r < 0)
		return r;
	if (listen(fd, backlog) < 0)
		return log_bind_error(addr, -errno);
	r = registration_add_listener(reg, fd);
	return r < 0 ? r : TAKE_FD(fd);
}

/* 0 or -ENOMEM, and then some may have been added. */
static int listen_for_clients(struct listener *l)
{
	uint32_t i;

	for (i = 0; i < l->n_sockets; i++) {
		if (!l->sockets[i].destroyed && event_add(l->sockets[i].event, NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void resume_later(struct listener *l)
{
	const struct timeval delay = { .tv_usec = RESUME_MS * 1000 };

	if (event_add(l->resume, &delay) < 0)
		l->worker->lost_listener = true;
}

static void listener_pause(struct listener *l, const char *why)
{
	uint32_t i;

	/* At the limit pauses come and go with every connection: one line for those of all. */
	if (log_episode_begins(&l->worker->limit->paused))
		log_warning("accepting paused, clients wait: %s", why);
	stats_add(&l->worker->stats.accept_paused, 1);
	if (!l->resume)
		return;
	l->paused = true;
	for (i = 0; i < l->n_sockets; i++)
		event_del(l->sockets[i].event);
	resume_later(l);
}

void listener_resume(struct listener *l)
{
	if (!l->paused)
		return;
	/* What paused us may keep events from being added too. */
	l->paused = listen_for_clients(l) < 0;
	if (l->paused)
		resume_later(l);
	else
		event_del(l->resume);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	listener_resume(arg);
}

void listener_finish(struct listener *l)
{
	uint32_t i;

	for (i = 0; i < l->n_sockets; i++) {
		if (l->sockets[i].event)
			event_free(l->sockets[i].event);
		util_closep(&l->sockets[i].fd);
	}
	if (l->resume)
		event_free(l->resume);
	util_closep(&l->spare_fd);
	*l = (struct listener)LISTENER_NULL;
}

/* Has a socket to dial with no need of a mark, which costs as much as three other calls? */
static bool is_exempt(struct listener *l)
{
	if (l->asked_before == 0)
		l->exempt = registration_is_exempt(l->sockets[0].fd);
	l->asked_before = (l->asked_before + 1) % EXEMPT_ASK;
	return l->exempt;
}

/* 0 or -errno. */
static int make_spare(struct listener *l)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (l->spare_fd >= 0)
		return 0;
	fd = socket(l->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!is_exempt(l)) {
		r = registration_mark_upstream(&l->worker->handle, fd);
		if (r < 0)
			return r;
	}
	session_prepare(fd);
	l->spare_fd = TAKE_FD(fd);
	return 0;
}

/* Has somebody who may destroy sockets destroyed this one (SOCK_DESTROY of sock_diag(7))? */
static bool is_destroyed(int fd)
{
	socklen_t len = sizeof(int);
	int listens;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && !listens;
}

/* Nobody will come there; the others go on until there are new ones. */
static void socket_is_lost(struct listener_socket *socket)
{
	struct listener *l = socket->listener;

	if (l->resume)
		event_del(socket->event);
	if (l->resume && !socket->destroyed)
		l->worker->lost_listener = true;
	socket->destroyed = true;
}

enum accepted {
	ACCEPTED,
	ACCEPTED_NONE, /* the backlog is empty */
	ACCEPTED_PAUSED,
};

static enum accepted accept_one(struct listener_socket *socket, bool crowded)
{
	struct listener *l = socket->listener;
	union sockaddr_any client;
	socklen_t len = sizeof(client);
	int fd, r;

	if (!worker_reserve_session(l->worker)) {
		listener_pause(l, "the limit of connections is reached");
		return ACCEPTED_PAUSED;
	}
	r = make_spare(l);
	if (r < 0) {
		worker_release_session(l->worker);
		listener_pause(l, strerror(-r));
		return ACCEPTED_PAUSED;
	}
	fd = accept4(socket->fd, &client.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		worker_release_session(l->worker);
		switch (errno) {
		case EAGAIN:
			return ACCEPTED_NONE;
		case EINTR:
		case ECONNABORTED:
		case EPROTO:
			return ACCEPTED; /* that one is gone, the next one may be good */
		}
		if (errno == EINVAL && is_destroyed(socket->fd)) {
			socket_is_lost(socket);
			return ACCEPTED_NONE;
		}
		listener_pause(l, strerror(errno));
		return ACCEPTED_PAUSED;
	}
	stats_add(&l->worker->stats.accepted, 1);
	session_create(l->worker, fd, TAKE_FD(l->spare_fd), &client, crowded);
	return ACCEPTED;
}

static void on_client(evutil_socket_t fd, short what, void *arg)
{
	struct listener_socket *socket = arg;
	struct worker *worker = socket->listener->worker;
	bool crowded = crowd_is(&worker->crowd);
	int i;

	busypoll_woke(&worker->busypoll);
	if (crowd_wait(&socket->wait, &worker->crowd, deadline_now_ms()))
		return;
	for (i = 0; i < ACCEPT_MAX && accept_one(socket, crowded || i > 0) == ACCEPTED; i++)
		;
}

void listener_init(struct listener *l, struct worker *worker, sa_family_t family, const int *fds,
		   uint32_t n)
{
	bool complete;
	uint32_t i;

	*l = (struct listener){
		.worker = worker, .family = family, .n_sockets = n, .spare_fd = -1
	};
	l->resume = evtimer_new(worker->base, on_resume, l);
	complete = l->resume;
	for (i = 0; i < n; i++) {
		struct listener_socket *socket = &l->sockets[i];

		socket->listener = l;
		socket->fd = fds[i];
		socket->event =
			event_new(worker->base, fds[i], EV_READ | EV_PERSIST, on_client, socket);
		complete &= socket->event != NULL;
	}
	if (!complete) {
		listener_finish(l);
		worker->lost_listener = true;
	} else if (listen_for_clients(l) < 0) {
		listener_pause(l, strerror(errno));
	}
}

void listener_retire(struct listener *to, struct listener *from)
{
	uint32_t i;

	listener_finish(to);
	*to = *from;
	*from = (struct listener)LISTENER_NULL;
	if (to->resume)
		event_free(TAKE_PTR(to->resume));
	to->paused = false;
	for (i = 0; i < to->n_sockets; i++) {
		to->sockets[i].listener = to;
		if (to->sockets[i].event)
			event_free(TAKE_PTR(to->sockets[i].event));
	}
}

/* How many clients wait (tcp(7) does not say that, but the kernel has since 2.6.18). */
static uint32_t backlog_of(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_unacked
								       : ACCEPT_MAX;
}

static void count_waiting(struct listener *l)
{
	uint32_t i;

	for (i = 0; !l->counted && i < l->n_sockets; i++)
		l->sockets[i].left = backlog_of(l->sockets[i].fd);
	l->counted = true;
}

enum listener_left listener_serve_retired(struct listener *l, bool last)
{
	enum listener_left left = LISTENER_EMPTY;
	uint32_t i, n, most;

	if (last)
		count_waiting(l);
	for (i = 0; i < l->n_sockets; i++) {
		struct listener_socket *socket = &l->sockets[i];
		enum accepted accepted = ACCEPTED;

		most = last && socket->left < ACCEPT_MAX ? socket->left : ACCEPT_MAX;
		for (n = 0; n < most && accepted == ACCEPTED; n += accepted == ACCEPTED)
			accepted = accept_one(socket, /* crowded= */ true);
		if (accepted == ACCEPTED_PAUSED)
			return LISTENER_PAUSED;
		socket->left = last && accepted == ACCEPTED ? socket->left - n : 0;
		if (last ? socket->left > 0 : n == ACCEPT_MAX)
			left = LISTENER_MORE;
	}
	return left;
}
