// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See tls.h. tls_flow.c moves the bytes, and says what each of the two flows needs then. on_event()
 * runs both flows, and set_waits() waits for what they need.
 *
 * A bridge is freed by end(): in tls_bridge_close(), or after that when everything is sent.
 */
#include "tls.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "secret.h"
#include "sock.h"
#include "tls_context.h"
#include "tls_flow.h"
#include "util.h"

/* How long a connection may take, without progress, to finish after tls_bridge_close(). */
#define FINISH_MS 60000
/* Interval of the search for upstreams that were reset while nothing is read from them. */
#define PROBE_MS 500

struct tls_bridge {
	LIST_ENTRY(tls_bridge) entry; /* tls_home::bridges */
	struct tls_home *home;
	struct tls_context *context; /* a reference */
	struct event fd_event, far_event;
	short fd_waits, far_waits; /* EV_READ, EV_WRITE: what the events are added for */
	struct tls_flows flows;
	enum tls_need up_needs, down_needs;
	/* With an error, nothing more is done until tls_bridge_close(). */
	struct tls_failure failure;
	bool closed;	/* tls_bridge_close() was called: the bridge finishes by itself */
	bool blocked;	/* counted in tls_home::n_blocked: fd is not polled */
	bool *ret_gone; /* set while done() runs: the bridge was freed */
	tls_done_fn done;
	void *data;
};

static void on_event(evutil_socket_t fd, short what, void *arg);

static void note_blocked(struct tls_bridge *b, bool blocked)
{
	static const struct timeval interval = { .tv_usec = PROBE_MS * 1000 };
	struct tls_home *home = b->home;

	if (b->blocked == blocked)
		return;
	b->blocked = blocked;
	home->n_blocked += blocked ? 1 : (uint32_t)-1;
	if (home->n_blocked == 0)
		event_del(home->probe);
	else if (blocked && home->n_blocked == 1)
		event_add(home->probe, &interval);
}

/* Waits for events of fd: EV_READ, EV_WRITE, or both; 0 ends the wait. Returns 0 or -ENOMEM. */
static int set_wait(struct tls_bridge *b, struct event *event, int fd, short *waits, short wanted)
{
	static const struct timeval finish = { .tv_sec = FINISH_MS / 1000 };

	/* The timeout of a bridge that finishes begins again with each event. */
	if (*waits == wanted && !b->closed)
		return 0;
	if (*waits)
		event_del(event);
	*waits = 0;
	if (!wanted)
		return 0;
	event_assign(event, b->home->base, fd, (short)(wanted | EV_PERSIST), on_event, b);
	if (event_add(event, b->closed ? &finish : NULL) < 0)
		return -ENOMEM;
	*waits = wanted;
	return 0;
}

static void stop_waits(struct tls_bridge *b)
{
	set_wait(b, &b->fd_event, b->flows.socket.fd, &b->fd_waits, 0);
	set_wait(b, &b->far_event, b->flows.far, &b->far_waits, 0);
	note_blocked(b, false);
}

static void end(struct tls_bridge *b, bool reset)
{
	struct tls_home *home = b->home;

	stop_waits(b);
	if (b->ret_gone)
		*b->ret_gone = true;
	/* Without this OpenSSL sends nothing either, but it would drop the session. */
	SSL_set_shutdown(b->flows.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(b->flows.ssl);
	if (reset)
		sock_close_reset(b->flows.socket.fd);
	else
		sock_close_well(b->flows.socket.fd);
	close(b->flows.far);
	tls_flow_finish(&b->flows);
	tls_context_unref(b->context);
	LIST_REMOVE(b, entry);
	home->n--;
	free(b);
	if (home->on_end)
		home->on_end(home->owner);
}

/* Reports to the owner: a failure, or that there is none. Returns false if the bridge was freed. */
static bool report(struct tls_bridge *b)
{
	/* The text stays valid if the owner closes the bridge. */
	const struct tls_failure failure = b->failure;
	bool gone = false;

	b->ret_gone = &gone;
	b->done(b->data, failure.error, failure.why);
	if (!gone)
		b->ret_gone = NULL;
	return !gone;
}

/* The connection is lost, and b->failure is set. The bridge may be freed. */
static void fail(struct tls_bridge *b)
{
	if (b->closed) {
		end(b, /* reset= */ true);
		return;
	}
	stop_waits(b);
	report(b);
}

static void fail_by(struct tls_bridge *b, int error)
{
	b->failure.error = error;
	snprintf(b->failure.why, sizeof(b->failure.why), "%s", strerror(error));
	fail(b);
}

/* True if an event is what a flow needs. */
static bool has_come(const struct tls_bridge *b, enum tls_need need, evutil_socket_t fd, short what)
{
	switch (need) {
	case TLS_NEEDS_FD_READ:
		return fd == b->flows.socket.fd && (what & EV_READ);
	case TLS_NEEDS_FD_WRITE:
		return fd == b->flows.socket.fd && (what & EV_WRITE);
	case TLS_NEEDS_FAR_READ:
		return fd == b->flows.far && (what & EV_READ);
	case TLS_NEEDS_FAR_WRITE:
		return fd == b->flows.far && (what & EV_WRITE);
	default:
		return need == TLS_NEEDS_TURN;
	}
}

/* Waits for what the flows need. */
static void set_waits(struct tls_bridge *b)
{
	const enum tls_need up = b->up_needs, down = b->down_needs;
	short fd = 0, far = 0;

	if (up == TLS_NEEDS_FD_READ || down == TLS_NEEDS_FD_READ)
		fd |= EV_READ;
	if (up == TLS_NEEDS_FD_WRITE || down == TLS_NEEDS_FD_WRITE)
		fd |= EV_WRITE;
	if (up == TLS_NEEDS_FAR_READ)
		far |= EV_READ;
	if (down == TLS_NEEDS_FAR_WRITE)
		far |= EV_WRITE;
	if (set_wait(b, &b->fd_event, b->flows.socket.fd, &b->fd_waits, fd) < 0 ||
	    set_wait(b, &b->far_event, b->flows.far, &b->far_waits, far) < 0) {
		fail_by(b, ENOMEM);
		return;
	}
	/* After close_notify both ways a reset says nothing. */
	note_blocked(b, fd == 0 && !(b->flows.notified && b->flows.down.eof));
}

/* Returns false if the bridge may be freed, or if the handshake goes on. */
static bool shake_hands(struct tls_bridge *b)
{
	b->up_needs = tls_flow_handshake(&b->flows, &b->failure);
	b->down_needs = TLS_NEEDS_NOTHING;
	switch (b->up_needs) {
	case TLS_FAILED:
		fail(b);
		return false;
	case TLS_NEEDS_NOTHING:
		b->up_needs = b->down_needs = TLS_NEEDS_TURN;
		return b->closed || report(b);
	default:
		set_waits(b);
		return false;
	}
}

/*
 * Moves on those flows that need what has come. A flow whose turn has ended waits for its source,
 * which reports again what is left, or for its sink if it has kept a piece.
 */
static void move(struct tls_bridge *b, evutil_socket_t fd, short what)
{
	enum tls_need up = b->up_needs, down = b->down_needs;
	struct tls_flows *flows = &b->flows;

	if (has_come(b, up, fd, what))
		up = tls_flow_up(flows, &b->failure);
	if (up != TLS_FAILED && has_come(b, down, fd, what))
		down = tls_flow_down(flows, &b->failure);
	if (up == TLS_FAILED || down == TLS_FAILED) {
		fail(b);
		return;
	}
	if (b->closed && flows->notified) {
		end(b, /* reset= */ false);
		return;
	}
	if (up == TLS_NEEDS_TURN)
		up = flows->up.kept || flows->up.eof ? TLS_NEEDS_FD_WRITE : TLS_NEEDS_FAR_READ;
	if (down == TLS_NEEDS_TURN)
		down = flows->down.kept ? TLS_NEEDS_FAR_WRITE : TLS_NEEDS_FD_READ;
	b->up_needs = up;
	b->down_needs = down;
	set_waits(b);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct tls_bridge *b = arg;

	if (what & EV_TIMEOUT)
		end(b, /* reset= */ true);
	else if (b->flows.open || shake_hands(b))
		move(b, fd, what);
}

/* Level-triggered events of a socket that is not polled report no reset. */
static void on_probe(evutil_socket_t fd, short what, void *arg)
{
	struct tls_home *home = arg;
	struct tls_bridge *b, *next;

	for (b = LIST_FIRST(&home->bridges); b; b = next) {
		struct pollfd poll_fd = { .fd = b->flows.socket.fd };
		int error = 0;
		socklen_t len = sizeof(error);

		next = LIST_NEXT(b, entry);
		if (!b->blocked || poll(&poll_fd, 1, 0) <= 0 || !(poll_fd.revents & POLLERR))
			continue;
		getsockopt(b->flows.socket.fd, SOL_SOCKET, SO_ERROR, &error, &len);
		/*
		 * It is not blocked after that, and may be freed. So may others: those of other
		 * attempts of the same dial.
		 */
		fail_by(b, error ? error : ECONNRESET);
		next = LIST_FIRST(&home->bridges);
	}
}

int tls_home_init(struct tls_home *home, struct event_base *base)
{
	*home = (struct tls_home){ .base = base };
	LIST_INIT(&home->bridges);
	home->probe = event_new(base, -1, EV_PERSIST, on_probe, home);
	home->scratch = secret_memory_new(TLS_PIECE);
	return home->probe && home->scratch ? 0 : -ENOMEM;
}

void tls_home_stop(struct tls_home *home)
{
	struct tls_bridge *b, *next;

	for (b = LIST_FIRST(&home->bridges); b; b = next) {
		next = LIST_NEXT(b, entry);
		if (b->closed)
			end(b, /* reset= */ true);
	}
}

void tls_home_finish(struct tls_home *home)
{
	while (!LIST_EMPTY(&home->bridges))
		end(LIST_FIRST(&home->bridges), /* reset= */ true);
	if (home->probe)
		event_free(home->probe);
	secret_memory_free(home->scratch, TLS_PIECE);
	*home = (struct tls_home){};
}

/* Makes the pair. An urgent byte becomes an ordinary one: TLS has none. */
static int make_pair(int *ret_far, int *ret_near)
{
	const int size = TLS_PAIR_BUFFER / 2, on = 1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(pair[0], SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	*ret_far = pair[0];
	*ret_near = pair[1];
	return 0;
}

int tls_bridge_new(struct tls_home *home, int fd, struct tls_context *context, tls_done_fn done,
		   void *data, int *ret_near_fd, struct tls_bridge **ret_bridge)
{
	struct tls_bridge *b = calloc(1, sizeof(*b));
	_cleanup_close_ int near = -1;
	const int on = 1;
	int r;

	if (!b) {
		close(fd);
		return -ENOMEM;
	}
	*b = (struct tls_bridge){ .home = home, .done = done, .data = data };
	b->flows.socket.fd = fd;
	b->flows.scratch = home->scratch;
	r = make_pair(&b->flows.far, &near);
	if (r < 0) {
		close(fd);
		free(b);
		return r;
	}
	LIST_INSERT_HEAD(&home->bridges, b, entry);
	home->n++;
	b->context = tls_context_ref(context);
	ERR_clear_error();
	b->flows.ssl = tls_context_connect(context, &b->flows.socket);
	sock_abort_on_close(fd);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!b->flows.ssl || set_wait(b, &b->fd_event, fd, &b->fd_waits, EV_WRITE) < 0) {
		end(b, /* reset= */ true);
		return -ENOMEM;
	}
	*ret_near_fd = TAKE_FD(near);
	*ret_bridge = b;
	return 0;
}

void tls_bridge_close(struct tls_bridge *b, bool reset)
{
	if (!b)
		return;
	if (reset || b->failure.error) {
		end(b, /* reset= */ true);
		return;
	}
	b->closed = true;
	/* The bytes in the pair are sent. Nothing more is read from the upstream. */
	b->flows.down.eof = true;
	b->up_needs = TLS_NEEDS_FD_WRITE;
	/* From the event loop: the caller closes the near end first. */
	if (set_wait(b, &b->fd_event, b->flows.socket.fd, &b->fd_waits, EV_WRITE) < 0)
		end(b, /* reset= */ true);
}

static void on_owner(evutil_socket_t fd, short what, void *arg)
{
	struct tls_bridge *b = arg;

	b->fd_waits = 0;
	report(b);
}

void tls_bridge_set_owner(struct tls_bridge *b, tls_done_fn done, void *data)
{
	b->done = done;
	b->data = data;
	if (!b->failure.error)
		return;
	evtimer_assign(&b->fd_event, b->home->base, on_owner, b);
	b->fd_waits = EV_TIMEOUT;
	event_active(&b->fd_event, EV_TIMEOUT, 0);
}

int tls_bridge_fd(const struct tls_bridge *b)
{
	return b->flows.socket.fd;
}

const char *tls_bridge_describe(const struct tls_bridge *b, char buf[TLS_WHY_LEN])
{
	snprintf(buf, TLS_WHY_LEN, "%s %s%s", SSL_get_version(b->flows.ssl),
		 SSL_get_cipher_name(b->flows.ssl),
		 SSL_session_reused(b->flows.ssl) ? ", resumed" : "");
	return buf;
}
