// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See listener.h. accept_one() admits one client in three steps: it reserves a session within the
 * limit, makes the upstream socket (spare.h), and only then calls accept4(). A client is therefore
 * accepted only if both descriptors exist, and its connect() to the server comes sooner.
 *
 * If a step fails the listener pauses (listener_pause()). A retired listener has no timer, so its
 * caller tries again. A listening socket that was destroyed, of a pair either one, is reported as
 * listener_env::lost, and the main thread makes new ones.
 */
#include "listener.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/local.h"
#include "kernel/pending.h"
#include "kernel/registration.h"
#include "limit.h"
#include "log.h"
#include "monotonic.h"
#include "parse.h"
#include "session/client_sock.h"
#include "session/opening.h"
#include "tick.h"
#include "util.h"

/* Limit of clients accepted for one event, before running sessions continue. */
#define ACCEPT_MAX 64
/* Delay after which a paused listener tries again. */
#define RESUME_MS 100

void listener_fds_close(struct listener_fds *fds)
{
	util_closep(&fds->fd);
	util_closep(&fds->sink_fd);
	util_closep(&fds->guard_fd);
	*fds = (struct listener_fds)LISTENER_FDS_NULL;
}

static int log_bind_error(const union sockaddr_any *addr, int r)
{
	char text[FORMAT_ENDPOINT_LEN];

	log_err("cannot listen on %s: %s%s", format_endpoint(addr, text), strerror(-r),
		r == -EACCES ? "; ports below 1024 need CAP_NET_BIND_SERVICE" : "");
	return r;
}

/*
 * Makes a socket and binds it. A listener of a pair never has SO_REUSEADDR: with it, a process of
 * another user could bind the port as long as nobody listens. A port given in --listen is shared
 * with the relay that this one replaces. Returns a descriptor or -errno.
 */
static int bind_socket(const union sockaddr_any *addr, bool of_pair)
{
	const int on = 1, reuse_addr = !of_pair, reuse_port = of_pair || addr->in.sin_port;
	_cleanup_close_ int fd = -1;

	fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse_addr, sizeof(reuse_addr)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &reuse_port, sizeof(reuse_port)) < 0 ||
	    (addr->sa.sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, &addr->sa, sockaddr_len(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int listener_bind(const struct registration *reg, const union sockaddr_any *addr, int backlog)
{
	_cleanup_close_ int fd = -1;
	char text[FORMAT_ENDPOINT_LEN];
	int r;

	fd = bind_socket(addr, /* of_pair= */ false);
	if (fd < 0)
		return log_bind_error(addr, fd);
	if (local_is_broadcast(addr)) {
		log_err("cannot listen on %s: it is a broadcast address, to which no client can connect",
			format_endpoint(addr, text));
		return -EADDRNOTAVAIL;
	}
	client_sock_prepare(fd);
	/* Before listen(), where sockops confirms the mark. */
	r = registration_mark_listener(reg, fd, NULL);
	if (r < 0) {
		log_err("cannot mark the listening socket: %s", strerror(-r));
		return r;
	}
	if (listen(fd, backlog) < 0)
		return log_bind_error(addr, -errno);
	return TAKE_FD(fd);
}

/* The least TTL of a packet that the socket takes: no SYN to it has one. */
static int swallow(int fd, sa_family_t family)
{
	const int least = LISTENER_SINK_TTL;

	if (family == AF_INET6)
		return setsockopt(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, &least, sizeof(least));
	return setsockopt(fd, IPPROTO_IP, IP_MINTTL, &least, sizeof(least));
}

bool listener_is_sink(int fd)
{
	socklen_t len = sizeof(int);
	int least = 0, domain = 0;

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	len = sizeof(least);
	if (domain == AF_INET6)
		getsockopt(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, &least, &len);
	else
		getsockopt(fd, IPPROTO_IP, IP_MINTTL, &least, &len);
	return least == LISTENER_SINK_TTL;
}

/* Binds, marks and listens on both sockets of a pair. Returns 0 or -errno. */
static int listen_on_pair(const struct registration *reg, const struct registration_pair *pair,
			  const union sockaddr_any *addr, int backlog, int *real_fd, int *sink_fd)
{
	union sockaddr_any bound = {};
	socklen_t len = sizeof(bound);
	int r;

	*real_fd = bind_socket(addr, /* of_pair= */ true);
	if (*real_fd < 0)
		return *real_fd;
	if (getsockname(*real_fd, &bound.sa, &len) < 0)
		return -errno;
	*sink_fd = bind_socket(&bound, /* of_pair= */ true);
	if (*sink_fd < 0)
		return *sink_fd;
	client_sock_prepare(*real_fd);
	if (swallow(*sink_fd, addr->sa.sa_family) < 0)
		return -errno;
	r = registration_mark_listener(reg, *real_fd, pair);
	if (r == 0)
		r = registration_mark_listener(reg, *sink_fd, pair);
	if (r < 0)
		return r;
	return listen(*real_fd, backlog) < 0 || listen(*sink_fd, 1) < 0 ? -errno : 0;
}

int listener_bind_pair(const struct registration *reg, struct pending_maps *maps,
		       const struct pending_ring *ring, bool by_default,
		       const union sockaddr_any *addr, int backlog, struct listener_fds *ret_fds)
{
	struct registration_pair pair = { .ring = pending_ring_index(ring),
					  .by_default = by_default };
	_cleanup_close_ int real_fd = -1, sink_fd = -1;
	int r;

	if (local_is_broadcast(addr))
		return -EADDRNOTAVAIL;
	r = pending_pair_choose(maps, ring, &pair.pair);
	if (r == 0)
		r = listen_on_pair(reg, &pair, addr, backlog, &real_fd, &sink_fd);
	/* After listen(), which fails for a socket with the program where others are bound. */
	if (r == 0)
		r = pending_pair_add(maps, pair.pair, real_fd, sink_fd);
	if (r < 0)
		return r;
	ret_fds->fd = TAKE_FD(real_fd);
	ret_fds->sink_fd = TAKE_FD(sink_fd);
	return 0;
}

/* Starts polling. Returns 0, or -ENOMEM; some of the events may have been added then. */
static int listen_for_clients(struct listener *l)
{
	uint32_t i;

	for (i = 0; i < l->n_sockets; i++) {
		const struct listener_socket *socket = &l->sockets[i];

		if ((!socket->destroyed && event_add(socket->event, NULL) < 0) ||
		    (socket->sink_event && event_add(socket->sink_event, NULL) < 0))
			return -ENOMEM;
	}
	return 0;
}

static void resume_later(struct listener *l)
{
	const struct timeval delay = { .tv_usec = RESUME_MS * 1000 };

	if (event_add(l->resume, &delay) < 0)
		l->env->lost = true;
}

void listener_note_paused(struct listener_env *env, const char *why)
{
	/* At the limit, every connection pauses and resumes: log one line for the whole episode. */
	if (log_episode_begins(env->paused))
		log_warning("accepting paused, clients wait: %s", why);
	stats_add(&env->sessions->stats.accept_paused, 1);
}

/* Sinks are still polled: nobody is accepted there. */
static void listener_pause(struct listener *l, const char *why)
{
	uint32_t i;

	listener_note_paused(l->env, why);
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
	/* Adding events may fail for the same lack of memory. */
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
		if (l->sockets[i].sink_event)
			event_free(l->sockets[i].sink_event);
		listener_fds_close(&l->sockets[i].fds);
	}
	if (l->resume)
		event_free(l->resume);
	spare_close(&l->spare);
	*l = (struct listener)LISTENER_NULL;
}

/* True if a privileged process has destroyed the listening socket (SOCK_DESTROY, sock_diag(7)). */
static bool is_destroyed(int fd)
{
	socklen_t len = sizeof(int);
	int listens;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && !listens;
}

/*
 * No connection can arrive on a destroyed socket. Stops polling it and has the main thread make a
 * new set of listeners. The other sockets keep working until then, except its sink: alone, it would
 * swallow the SYNs of all clients. shutdown(), because the supervisor has a duplicate.
 */
static void socket_is_lost(struct listener_socket *socket)
{
	struct listener *l = socket->listener;

	if (l->resume)
		event_del(socket->event);
	if (l->resume && !socket->destroyed)
		l->env->lost = true;
	socket->destroyed = true;
	if (socket->sink_event)
		event_free(TAKE_PTR(socket->sink_event));
	if (socket->fds.sink_fd >= 0)
		shutdown(socket->fds.sink_fd, SHUT_RD);
}

enum accepted {
	ACCEPTED,
	ACCEPTED_NONE, /* the backlog is empty */
	ACCEPTED_PAUSED,
};

/* Accepts one client and creates its session. Pauses the listener if that cannot be done now. */
static enum accepted accept_one(struct listener_socket *socket, bool under_load)
{
	struct listener *l = socket->listener;
	union sockaddr_any client;
	socklen_t len = sizeof(client);
	int fd, r;

	if (!limit_reserve(l->env->limit)) {
		listener_pause(l, "the limit of connections is reached");
		return ACCEPTED_PAUSED;
	}
	r = spare_prepare(&l->spare, l->env->sessions, l->family, l->sockets[0].fds.fd);
	if (r < 0) {
		limit_release(l->env->limit);
		listener_pause(l, strerror(-r));
		return ACCEPTED_PAUSED;
	}
	fd = accept4(socket->fds.fd, &client.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		limit_release(l->env->limit);
		switch (errno) {
		case EAGAIN:
			return ACCEPTED_NONE;
		case EINTR:
		case ECONNABORTED:
		case EPROTO:
			return ACCEPTED; /* this client is gone; try the next one */
		}
		if (errno == EINVAL && is_destroyed(socket->fds.fd)) {
			socket_is_lost(socket);
			return ACCEPTED_NONE;
		}
		listener_pause(l, strerror(errno));
		return ACCEPTED_PAUSED;
	}
	stats_add(&l->env->sessions->stats.accepted, 1);
	session_create(l->env->sessions, fd, TAKE_FD(l->spare.fd), &client, under_load);
	tick_need(l->env->tick);
	return ACCEPTED;
}

static void on_client(evutil_socket_t fd, short what, void *arg)
{
	struct listener_socket *socket = arg;
	struct session_env *env = socket->listener->env->sessions;
	bool under_load = admission_under_load(&env->admission);
	int i;

	spin_note_event(&env->spin);
	if (admission_wait(&socket->wait, &env->admission, monotonic_coarse_ms()))
		return;
	for (i = 0; i < ACCEPT_MAX && accept_one(socket, under_load || i > 0) == ACCEPTED; i++)
		;
}

/*
 * A sink is readable if it was destroyed. It swallows all SYNs, so its backlog should be empty; a
 * client that is in it gets a reset.
 */
static void on_sink(evutil_socket_t fd, short what, void *arg)
{
	struct listener_socket *socket = arg;
	const struct linger at_once = { .l_onoff = 1 };
	_cleanup_close_ int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (client >= 0) {
		setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	} else if (is_destroyed((int)fd)) {
		event_free(TAKE_PTR(socket->sink_event));
		socket->listener->env->lost = true;
	}
}

/* Makes the events of a listening socket. Returns false without memory. */
static bool make_events(struct listener_socket *socket)
{
	struct event_base *base = socket->listener->env->sessions->base;

	socket->event = event_new(base, socket->fds.fd, EV_READ | EV_PERSIST, on_client, socket);
	if (socket->fds.sink_fd >= 0)
		socket->sink_event =
			event_new(base, socket->fds.sink_fd, EV_READ | EV_PERSIST, on_sink, socket);
	return socket->event && (socket->fds.sink_fd < 0 || socket->sink_event);
}

void listener_init(struct listener *l, struct listener_env *env, sa_family_t family,
		   const struct listener_fds *fds, uint32_t n)
{
	bool complete;
	uint32_t i;

	*l = (struct listener){ .env = env, .family = family, .n_sockets = n, .spare = SPARE_NULL };
	l->resume = evtimer_new(env->sessions->base, on_resume, l);
	complete = l->resume;
	for (i = 0; i < n; i++) {
		struct listener_socket *socket = &l->sockets[i];

		socket->listener = l;
		socket->fds = fds[i];
		complete &= make_events(socket);
	}
	if (!complete) {
		listener_finish(l);
		env->lost = true;
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
		if (to->sockets[i].sink_event)
			event_free(TAKE_PTR(to->sockets[i].sink_event));
	}
}

/* Returns how many clients wait. tcpi_unacked of a listener is its backlog (undocumented, since
 * 2.6.18). */
static uint32_t backlog_of(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_unacked
								       : ACCEPT_MAX;
}

/* Sets sockets[].left at the first call; does nothing after that. */
static void count_waiting(struct listener *l)
{
	uint32_t i;

	for (i = 0; !l->counted && i < l->n_sockets; i++)
		l->sockets[i].left = backlog_of(l->sockets[i].fds.fd);
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
			accepted = accept_one(socket, /* under_load= */ true);
		if (accepted == ACCEPTED_PAUSED)
			return LISTENER_PAUSED;
		socket->left = last && accepted == ACCEPTED ? socket->left - n : 0;
		if (last ? socket->left > 0 : n == ACCEPT_MAX)
			left = LISTENER_MORE;
	}
	return left;
}
