// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See listener.h. accept_one() admits one client in three steps: it reserves a session within the
 * limit, makes the upstream socket (prepare_upstream()), and only then calls accept4(). A client is
 * therefore accepted only if both descriptors exist, and its connect() to the server comes sooner.
 *
 * The upstream socket must not be redirected. It is marked UPSTREAM, unless this process is in the
 * relay cgroup (is_exempt()).
 *
 * If a step fails the listener pauses (listener_pause()). A retired listener has no timer, so its
 * caller tries again. A listening socket that was destroyed is reported as listener_env::lost,
 * and the main thread makes new ones.
 */
#include "listener.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/local.h"
#include "kernel/marks.h"
#include "kernel/registration.h"
#include "limit.h"
#include "log.h"
#include "monotonic.h"
#include "parse.h"
#include "session/opening.h"
#include "upstream/sock.h"
#include "tick.h"
#include "util.h"

/* Limit of clients accepted for one event, before running sessions continue. */
#define ACCEPT_MAX 64
/* Delay after which a paused listener tries again. */
#define RESUME_MS 100
/*
 * How often to check the exemption, in connections. If this process is moved out of the relay
 * cgroup, or a loader changes that cgroup, at most this many upstream connections are redirected
 * back to the relay before their sockets are marked again.
 */
#define EXEMPT_CHECK_EVERY 16

static int log_bind_error(const union sockaddr_any *addr, int r)
{
	char text[FORMAT_ENDPOINT_LEN];

	log_err("cannot listen on %s: %s%s", format_endpoint(addr, text), strerror(-r),
		r == -EACCES ? "; ports below 1024 need CAP_NET_BIND_SERVICE" : "");
	return r;
}

/*
 * The largest segment to and from a client. A segment of 64 KiB, as loopback has, does not fit into
 * the window of a client that made its SO_RCVBUF small after connect(): each segment would wait for
 * a timer of 200 ms. 1460 bytes would slow uploads down by half; 4096 do not.
 */
#define SEGMENT_MAX 4096

/*
 * Sets the options that accepted sockets inherit from their listener. TCP_NODELAY: the relay
 * writes data as soon as it has it. Reno: there is no congestion between two sockets of one host,
 * and the pacing of a host's default such as BBR only costs CPU (tests/bench/README.md has
 * numbers). The client's own socket is not changed.
 */
static void inherit_options(int fd)
{
	static const char congestion[] = "reno"; /* always built in */
	const int on = 1, segment = SEGMENT_MAX;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, sizeof(congestion) - 1);
	sock_prepare(fd);
}

int listener_bind(struct registration *reg, const union sockaddr_any *addr, int backlog)
{
	_cleanup_close_ int fd = -1;
	char text[FORMAT_ENDPOINT_LEN];
	const int on = 1;
	int r;

	fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return log_bind_error(addr, -errno);
	/* A port given in --listen is shared with the relay that this one replaces. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (addr->in.sin_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0) ||
	    (addr->sa.sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, &addr->sa, sockaddr_len(addr)) < 0)
		return log_bind_error(addr, -errno);
	if (local_is_broadcast(addr)) {
		log_err("cannot listen on %s: it is a broadcast address, to which no client can connect",
			format_endpoint(addr, text));
		return -EADDRNOTAVAIL;
	}
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

/* Starts polling. Returns 0, or -ENOMEM; some of the events may have been added then. */
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
		l->env->lost = true;
}

static void listener_pause(struct listener *l, const char *why)
{
	uint32_t i;

	/* At the limit, every connection pauses and resumes: log one line for the whole episode. */
	if (log_episode_begins(l->env->paused))
		log_warning("accepting paused, clients wait: %s", why);
	stats_add(&l->env->sessions->stats.accept_paused, 1);
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
		util_closep(&l->sockets[i].fd);
	}
	if (l->resume)
		event_free(l->resume);
	util_closep(&l->upstream_fd);
	*l = (struct listener)LISTENER_NULL;
}

/*
 * True while this process is in the relay cgroup. connect4 and connect6 then skip its sockets, and
 * the UPSTREAM mark can be left out: it costs as much as three other system calls. Checked every
 * EXEMPT_CHECK_EVERY connections.
 */
static bool is_exempt(struct listener *l)
{
	if (l->since_exempt_check == 0)
		l->exempt = l->env->sessions->exempt = marks_is_exempt(l->sockets[0].fd);
	l->since_exempt_check = (l->since_exempt_check + 1) % EXEMPT_CHECK_EVERY;
	return l->exempt;
}

/* Makes the upstream socket for the next client, if there is none. Returns 0 or -errno. */
static int prepare_upstream(struct listener *l)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (l->upstream_fd >= 0)
		return 0;
	fd = socket(l->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!is_exempt(l)) {
		r = marks_set_upstream(&l->env->sessions->marks, fd);
		if (r < 0)
			return r;
	}
	sock_prepare(fd);
	l->upstream_fd = TAKE_FD(fd);
	return 0;
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
 * new set of listeners. The other sockets keep working until then.
 */
static void socket_is_lost(struct listener_socket *socket)
{
	struct listener *l = socket->listener;

	if (l->resume)
		event_del(socket->event);
	if (l->resume && !socket->destroyed)
		l->env->lost = true;
	socket->destroyed = true;
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
	r = prepare_upstream(l);
	if (r < 0) {
		limit_release(l->env->limit);
		listener_pause(l, strerror(-r));
		return ACCEPTED_PAUSED;
	}
	fd = accept4(socket->fd, &client.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
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
		if (errno == EINVAL && is_destroyed(socket->fd)) {
			socket_is_lost(socket);
			return ACCEPTED_NONE;
		}
		listener_pause(l, strerror(errno));
		return ACCEPTED_PAUSED;
	}
	stats_add(&l->env->sessions->stats.accepted, 1);
	session_create(l->env->sessions, fd, TAKE_FD(l->upstream_fd), &client, under_load);
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

void listener_init(struct listener *l, struct listener_env *env, sa_family_t family, const int *fds,
		   uint32_t n)
{
	bool complete;
	uint32_t i;

	*l = (struct listener){ .env = env, .family = family, .n_sockets = n, .upstream_fd = -1 };
	l->resume = evtimer_new(env->sessions->base, on_resume, l);
	complete = l->resume;
	for (i = 0; i < n; i++) {
		struct listener_socket *socket = &l->sockets[i];

		socket->listener = l;
		socket->fd = fds[i];
		socket->event = event_new(env->sessions->base, fds[i], EV_READ | EV_PERSIST,
					  on_client, socket);
		complete &= socket->event != NULL;
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
			accepted = accept_one(socket, /* under_load= */ true);
		if (accepted == ACCEPTED_PAUSED)
			return LISTENER_PAUSED;
		socket->left = last && accepted == ACCEPTED ? socket->left - n : 0;
		if (last ? socket->left > 0 : n == ACCEPT_MAX)
			left = LISTENER_MORE;
	}
	return left;
}
