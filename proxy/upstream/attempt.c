// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See attempt.h. Each stage begins the next one, until one has to wait: begin_connect(),
 * begin_tls(), make_handshakes(). Each returns the progress of the whole attempt. on_event() goes
 * on from there.
 *
 * A PROXY header precedes TLS: HAProxy and nginx read it before they begin TLS. It is then the only
 * handshake before begin_tls(), and the others come after it.
 *
 * Sockets are prepared as listener.c prepares those of direct connections: marked, so that connect4
 * does not redirect them, and in the mode in which a close is a reset.
 */
#include "attempt.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "connect.h"
#include "kernel/marks.h"
#include "log.h"
#include "request.h"
#include "sock.h"
#include "tls.h"
#include "tproxy_abi.h"
#include "util.h"

/* How long to wait when the socket is writable but takes nothing, as half.c does. */
#define BACKOFF_MS 10
/* How long to wait for room in the backlog of a UNIX socket: doubled from the first to the last. */
#define BACKLOG_MIN_MS 5
#define BACKLOG_MAX_MS 50

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t attempt_us(const struct attempt *a)
{
	return now_us() - a->started_us;
}

const char *attempt_why(const struct attempt *a)
{
	return *a->why ? a->why : strerror(a->error);
}

static void stop_waiting(struct attempt *a)
{
	if (a->waits)
		event_del(&a->event);
	a->waits = 0;
}

bool attempt_has_nagle(const struct attempt *a)
{
	return a->addr.sa.sa_family != AF_UNIX && !a->bridge && !a->no_delay;
}

struct event *attempt_event(struct attempt *a)
{
	return a->waits == EV_READ ? &a->event : NULL;
}

void attempt_close(struct attempt *a)
{
	if (a->stage == ATTEMPT_IDLE)
		return;
	stop_waiting(a);
	handshake_destroy(TAKE_PTR(a->handshake));
	tls_bridge_close(TAKE_PTR(a->bridge), /* reset= */ true);
	if (a->fd >= 0)
		close(TAKE_FD(a->fd));
	a->stage = ATTEMPT_IDLE;
}

static enum attempt_progress failed(struct attempt *a, enum health_failure how, int error,
				    const char *why)
{
	a->how = how;
	a->error = error;
	if (why)
		snprintf(a->why, sizeof(a->why), "%s", why);
	return ATTEMPT_FAILED;
}

static enum attempt_progress local(struct attempt *a, int error)
{
	a->error = error;
	return ATTEMPT_LOCAL;
}

static void on_event(evutil_socket_t fd, short what, void *arg);

/* Waits for events of fd. With EV_TIMEOUT waits for backlog_ms instead, or else for BACKOFF_MS. */
static enum attempt_progress wait_for(struct attempt *a, short what)
{
	const uint32_t ms = a->backlog_ms ? a->backlog_ms : BACKOFF_MS;
	const struct timeval backoff = { .tv_usec = (suseconds_t)ms * 1000 };
	const bool backs_off = what == EV_TIMEOUT;

	if (a->waits == what && !backs_off)
		return ATTEMPT_RUNS;
	stop_waiting(a);
	event_assign(&a->event, a->request->base, backs_off ? -1 : a->fd,
		     backs_off ? what : what | EV_PERSIST, on_event, a);
	if (event_add(&a->event, backs_off ? &backoff : NULL) < 0)
		return local(a, ENOMEM);
	a->waits = what;
	return ATTEMPT_RUNS;
}

/* Sets *ret_ops to the handshake with this index. Returns false if there are not so many. */
static bool nth_handshake(const struct attempt *a, size_t n, const struct handshake_ops **ret_ops)
{
	const struct upstream_conf *conf = &a->upstream->conf;
	const struct handshake_ops *ops[2];
	size_t count = 0;

	/* A PROXY header is the first thing on a connection. */
	if (conf->proxy_header != PROXY_HEADER_NONE)
		ops[count++] = &proxy_header_ops;
	if (conf->type == UPSTREAM_SOCKS5)
		ops[count++] = &socks5_ops;
	if (conf->type == UPSTREAM_HTTP)
		ops[count++] = &http_connect_ops;
	if (n >= count)
		return false;
	*ret_ops = ops[n];
	return true;
}

/* True if the connection is still to become one of TLS. */
static bool is_before_tls(const struct attempt *a)
{
	return a->upstream->conf.tls && !a->bridge;
}

/* True if bytes follow those of this handshake immediately. */
static bool bytes_follow(const struct attempt *a)
{
	const struct handshake_ops *next;
	int waiting = 0;

	if (!handshake_ops_of(a->handshake)->one_way)
		return false;
	return is_before_tls(a) || nth_handshake(a, a->n_handshakes, &next) ||
	       (ioctl(a->request->client_fd, SIOCINQ, &waiting) == 0 && waiting > 0);
}

/* Creates the handshake with the ops. Returns false if memory is short. */
static bool create_handshake(struct attempt *a, const struct handshake_ops *ops)
{
	const struct dial_request *request = a->request;
	const struct handshake_target target = {
		.dst = request->dst,
		.client = request->client,
		.name = a->upstream->conf.send_name ? request->name : NULL,
		.known_name = request->name,
		.upstream = &a->upstream->conf,
		.conn = request->conn,
	};

	a->handshake = handshake_create(ops, &target);
	a->n_handshakes++;
	return a->handshake;
}

static void note_accepted(struct attempt *a)
{
	if (a->accepted || !handshake_was_accepted(a->handshake))
		return;
	a->accepted = true;
	if (a->on_accepted)
		a->on_accepted(a);
}

/*
 * Nagle's algorithm would hold back what follows until the server has acknowledged this handshake.
 * If the server has spoken last, it has acknowledged it. If bytes follow immediately, the kernel
 * holds the handshake back for them, and TCP_NODELAY would send it alone.
 */
static void set_no_delay(struct attempt *a, bool follow)
{
	const int on = 1;

	if (follow || !attempt_has_nagle(a) || handshake_is_in_answer(a->handshake))
		return;
	setsockopt(a->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	a->no_delay = true;
}

/* Has the kernel acknowledge now what has come, and not with what the relay sends next. */
static void acknowledge(struct attempt *a)
{
	if (a->acks_late)
		sock_set_quickack(a->fd, true);
	a->acks_late = false;
}

static enum attempt_progress begin_tls(struct attempt *a);

static enum attempt_progress make_handshakes(struct attempt *a)
{
	const bool was_writable = a->waits == EV_WRITE; /* by an event */
	const struct handshake_ops *ops;
	enum handshake_progress progress;
	bool follow;
	int error = 0;

	for (;;) {
		if (!a->handshake) {
			if (!nth_handshake(a, a->n_handshakes, &ops))
				return ATTEMPT_DONE;
			if (!create_handshake(a, ops))
				return local(a, ENOMEM);
		}
		follow = bytes_follow(a);
		progress = handshake_run(a->handshake, a->fd, follow, &error);
		note_accepted(a);
		switch (progress) {
		case HANDSHAKE_WAIT_READ:
			/* Without it Nagle's algorithm of the server may hold back the rest. */
			if (handshake_is_in_answer(a->handshake))
				acknowledge(a);
			return wait_for(a, EV_READ);
		case HANDSHAKE_WAIT_WRITE:
			acknowledge(a);
			return wait_for(a, was_writable ? EV_TIMEOUT : EV_WRITE);
		case HANDSHAKE_FINISHED:
			set_no_delay(a, follow);
			handshake_destroy(TAKE_PTR(a->handshake));
			if (is_before_tls(a))
				return begin_tls(a);
			break;
		case HANDSHAKE_REFUSED:
			failed(a, HEALTH_HANDSHAKE, error, handshake_why(a->handshake));
			return ATTEMPT_REFUSED;
		case HANDSHAKE_DECLINED:
			failed(a, HEALTH_HANDSHAKE, error, handshake_why(a->handshake));
			return ATTEMPT_DECLINED;
		case HANDSHAKE_BROKEN:
			return failed(a, error == EACCES ? HEALTH_AUTH : HEALTH_HANDSHAKE, error,
				      handshake_why(a->handshake));
		}
	}
}

static enum attempt_progress begin_handshakes(struct attempt *a)
{
	stop_waiting(a);
	a->stage = ATTEMPT_HANDSHAKE;
	return make_handshakes(a);
}

/*
 * The connection behind the bridge is lost. Bytes that came before may be the proxy's answer.
 * The answer decides, because a server that refuses may close at once.
 */
static enum attempt_progress tls_lost(struct attempt *a, int error, const char *why)
{
	enum attempt_progress r;

	if (a->stage == ATTEMPT_HANDSHAKE) {
		r = make_handshakes(a);
		if (r != ATTEMPT_RUNS)
			return r;
	}
	stop_waiting(a);
	return failed(a, HEALTH_TLS, error, why);
}

/* Callback of the bridge. Before the end of the attempt its owner is the attempt. */
static void on_tls(void *data, int error, const char *why)
{
	struct attempt *a = data;
	enum attempt_progress r;
	char text[TLS_WHY_LEN];

	if (a->request->on_event)
		a->request->on_event(a->request->data);
	if (!error)
		log_debug("upstream '%s': %s", a->upstream->conf.name,
			  tls_bridge_describe(a->bridge, text));
	r = error ? tls_lost(a, error, why) : begin_handshakes(a);
	if (r != ATTEMPT_RUNS)
		a->on_end(a, r);
}

static enum attempt_progress begin_tls(struct attempt *a)
{
	int r, near_fd;

	stop_waiting(a);
	a->stage = ATTEMPT_TLS;
	if (!a->request->tls || !a->upstream->tls)
		return local(a, EPROTONOSUPPORT);
	r = tls_bridge_new(a->request->tls, TAKE_FD(a->fd), a->upstream->tls, on_tls, a, &near_fd,
			   &a->bridge);
	if (r < 0)
		return local(a, -r);
	a->fd = near_fd;
	return ATTEMPT_RUNS;
}

/* The socket is connected. */
static enum attempt_progress connected(struct attempt *a)
{
	if (is_before_tls(a) && a->upstream->conf.proxy_header == PROXY_HEADER_NONE)
		return begin_tls(a);
	return begin_handshakes(a);
}

static enum attempt_progress connect_failed(struct attempt *a, int error)
{
	/* EACCES of a UNIX socket comes from its mode, or from that of its directory. */
	if (connect_error_is_local(error) && a->addr.sa.sa_family != AF_UNIX)
		return local(a, error);
	return failed(a, HEALTH_CONNECT, error, NULL);
}

/*
 * True if the relay sends first on the TCP socket that the attempt keeps: with TLS a bridge takes
 * the socket over, and the attempt can no longer set its options.
 */
static bool speaks_first(const struct attempt *a)
{
	const struct handshake_ops *ops;

	return a->addr.sa.sa_family != AF_UNIX && !a->upstream->conf.tls &&
	       nth_handshake(a, 0, &ops);
}

static enum attempt_progress begin_connect(struct attempt *a)
{
	int r;

	/* The first handshake acknowledges the server's SYN, and each message the answer before. */
	a->acks_late = speaks_first(a);
	if (a->acks_late)
		sock_set_quickack(a->fd, false);
	r = connect_start_addr(a->fd, &a->addr.sa, upstream_addr_len(&a->addr));
	if (r == -EINPROGRESS)
		return wait_for(a, EV_WRITE);
	/* The backlog is full, and no event tells when there is room. */
	if (r == -EAGAIN && a->addr.sa.sa_family == AF_UNIX) {
		a->backlog_ms = a->backlog_ms ? 2 * a->backlog_ms : BACKLOG_MIN_MS;
		if (a->backlog_ms > BACKLOG_MAX_MS)
			a->backlog_ms = BACKLOG_MAX_MS;
		return wait_for(a, EV_TIMEOUT);
	}
	a->backlog_ms = 0;
	return r < 0 ? connect_failed(a, -r) : connected(a);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct attempt *a = arg;
	enum attempt_progress r;
	int error;

	if (a->request->on_event)
		a->request->on_event(a->request->data);
	if (a->backlog_ms) {
		r = begin_connect(a);
	} else if (a->stage == ATTEMPT_CONNECT) {
		error = -connect_result(a->fd);
		r = error ? connect_failed(a, error) : connected(a);
	} else {
		r = make_handshakes(a);
	}
	if (r != ATTEMPT_RUNS)
		a->on_end(a, r);
}

/* Makes a socket that connect4 does not redirect. Returns it, or -errno. */
static int make_socket(const struct dial_request *request, sa_family_t family)
{
	_cleanup_close_ int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const bool captured = request->conn && (request->conn->flags & TPROXY_CONN_CAPTURED);
	int r = 0;

	if (fd < 0)
		return -errno;
	sock_prepare(fd);
	if (family == AF_UNIX)
		return TAKE_FD(fd);
	if (captured)
		r = marks_set_upstream_of(request->marks, fd, request->conn);
	else if (!request->exempt)
		r = marks_set_upstream(request->marks, fd);
	if (r < 0 && !request->exempt)
		return r;
	return TAKE_FD(fd);
}

enum attempt_progress attempt_start(struct attempt *a, const struct dial_request *request,
				    struct upstream *upstream, const union upstream_addr *addr,
				    int fd)
{
	const uint32_t mark = request->so_mark;

	a->request = request;
	a->upstream = upstream;
	a->addr = *addr;
	a->stage = ATTEMPT_CONNECT;
	a->n_handshakes = 0;
	a->accepted = a->no_delay = a->acks_late = false;
	a->backlog_ms = 0;
	a->waits = 0;
	a->why[0] = '\0';
	a->started_us = now_us();
	a->fd = fd >= 0 ? fd : make_socket(request, addr->sa.sa_family);
	if (a->fd < 0)
		return local(a, -a->fd);
	/* Without the mark the connection could take another route than the client's. */
	if (mark && addr->sa.sa_family != AF_UNIX &&
	    setsockopt(a->fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0)
		return local(a, errno);
	return begin_connect(a);
}

bool attempt_is_unanswered(const struct attempt *a)
{
	const struct handshake *h = a->handshake;

	if (a->stage != ATTEMPT_HANDSHAKE)
		return a->stage != ATTEMPT_IDLE;
	return h && (handshake_is_partial(h) ||
		     (handshake_ops_of(h)->answers_first && !handshake_was_answered(h)));
}

bool attempt_is_in_queue(const struct attempt *a)
{
	return a->stage == ATTEMPT_CONNECT && a->backlog_ms;
}

const char *attempt_silence(const struct attempt *a)
{
	if (attempt_is_in_queue(a))
		return "its backlog is full";
	return a->handshake && handshake_is_partial(a->handshake) ? "its answer is incomplete"
								  : "no answer";
}

void attempt_log_failure(const struct attempt *a, const char *why)
{
	struct upstream *u = a->upstream;
	char addr[UPSTREAM_ADDR_TEXT_LEN];

	log_limited(&u->failed_log, LOG_LEVEL_WARNING, "upstream '%s' at %s: %s", u->conf.name,
		    upstream_addr_text(&a->addr, addr), why);
}

bool attempt_ended_after_answer(const struct attempt *a)
{
	const bool ended = a->how == HEALTH_TLS || (a->how == HEALTH_HANDSHAKE && !*a->why);

	return ended && a->error == ECONNRESET && a->handshake &&
	       handshake_was_answered(a->handshake);
}

bool attempt_has_work(const struct attempt *a)
{
	struct pollfd fd = { .fd = a->fd };

	if (a->stage == ATTEMPT_IDLE || a->waits == EV_TIMEOUT)
		return false;
	fd.events = a->waits == EV_WRITE ? POLLOUT : POLLIN;
	if (a->stage == ATTEMPT_TLS)
		fd.fd = tls_bridge_fd(a->bridge);
	return poll(&fd, 1, 0) != 0;
}
