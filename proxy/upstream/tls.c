// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See tls.h. The flow "up" goes from the far end of the pair to the upstream,
 * "down" the other way. on_event() runs both flows, and then set_waits() waits for what they need.
 * A flow that could not write keeps its piece and reads no more until that is written.
 *
 * OpenSSL reads no further than the current record, and a record fits into the scratch buffer.
 * Nothing is thus left inside OpenSSL when an event has been handled, and level-triggered events of
 * the socket report all that there is to do.
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

#include "sock.h"
#include "tls_context.h"
#include "util.h"

/* The most plain text of a record. */
#define PIECE (16 * 1024)
/* Limit of pieces that one event moves in each direction, so that other connections get a turn. */
#define ROUNDS_MAX 8
/* How long a connection may take, without progress, to finish after tls_bridge_close(). */
#define FINISH_MS 60000
/* Interval of the search for upstreams that were reset while nothing is read from them. */
#define PROBE_MS 500

/* A piece that was read and is not yet written. */
struct kept {
	size_t off, len; /* len bytes at data + off are left */
	char data[];
};

struct flow {
	struct kept *kept; /* owned, NULL: nothing */
	bool eof;	   /* the source has ended, and all its bytes are written */
};

/* What a flow needs before it can go on. */
enum need {
	NEED_NOTHING, /* it has ended */
	NEED_TURN,    /* only the next turn: an event of its source will come */
	NEED_FD_READ,
	NEED_FD_WRITE,
	NEED_FAR_READ,
	NEED_FAR_WRITE,
	NEED_FAILED, /* fail() has been called: the bridge may be freed */
};

struct tls_bridge {
	LIST_ENTRY(tls_bridge) entry; /* tls_home::bridges */
	struct tls_home *home;
	struct tls_context *context; /* a reference */
	SSL *ssl;
	int fd;	 /* the upstream's socket */
	int far; /* our end of the pair */
	struct event fd_event, far_event;
	short fd_waits, far_waits; /* EV_READ, EV_WRITE: what the events are added for */
	struct flow up, down;
	enum need up_needs, down_needs;
	bool open;	/* the handshake is done */
	bool notified;	/* close_notify is sent */
	bool failed;	/* nothing more is done until tls_bridge_close() */
	bool closed;	/* tls_bridge_close() was called: the bridge finishes by itself */
	bool blocked;	/* counted in tls_home::n_blocked: fd is not polled */
	bool *ret_gone; /* set while done() runs: the bridge was freed */
	tls_done_fn done;
	void *data;
};

static void on_event(evutil_socket_t fd, short what, void *arg);

/* Bridges: waits and ends */

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
	set_wait(b, &b->fd_event, b->fd, &b->fd_waits, 0);
	set_wait(b, &b->far_event, b->far, &b->far_waits, 0);
	note_blocked(b, false);
}

/* Passwords go up: what has been in memory must not be in a core dump later. */
static void free_kept(struct flow *flow)
{
	if (!flow->kept)
		return;
	explicit_bzero(flow->kept->data, flow->kept->off + flow->kept->len);
	free(TAKE_PTR(flow->kept));
}

static void end(struct tls_bridge *b, bool reset)
{
	struct tls_home *home = b->home;

	stop_waits(b);
	if (b->ret_gone)
		*b->ret_gone = true;
	/* Without this OpenSSL sends nothing either, but it would drop the session. */
	SSL_set_shutdown(b->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(b->ssl);
	if (reset)
		sock_close_reset(b->fd);
	else
		sock_close_well(b->fd);
	close(b->far);
	free_kept(&b->up);
	free_kept(&b->down);
	tls_context_unref(b->context);
	LIST_REMOVE(b, entry);
	home->n--;
	free(b);
	if (home->on_end)
		home->on_end(home->owner);
}

/* Reports to the owner. Returns false if the bridge was freed. */
static bool report(struct tls_bridge *b, int error, const char *why)
{
	bool gone = false;

	b->ret_gone = &gone;
	b->done(b->data, error, why);
	if (!gone)
		b->ret_gone = NULL;
	return !gone;
}

/* The connection is lost. The bridge may be freed. */
static enum need fail(struct tls_bridge *b, int error, const char *why)
{
	if (b->closed) {
		end(b, /* reset= */ true);
		return NEED_FAILED;
	}
	stop_waits(b);
	b->failed = true;
	report(b, error, why);
	return NEED_FAILED;
}

static enum need fail_tls(struct tls_bridge *b, int ssl_error)
{
	const int error = errno;
	const long verified = SSL_get_verify_result(b->ssl);
	char why[TLS_WHY_LEN];

	if (ssl_error == SSL_ERROR_SYSCALL && error)
		return fail(b, error, strerror(error));
	if (ssl_error == SSL_ERROR_SYSCALL || ssl_error == SSL_ERROR_ZERO_RETURN
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
	    || ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
#endif
	)
		return fail(b, ECONNRESET,
			    b->open ? "the TLS stream was cut off: it ended without close_notify"
				    : "closed in the TLS handshake");
	if (!b->open && verified != X509_V_OK && SSL_get_verify_mode(b->ssl))
		snprintf(why, sizeof(why), "certificate refused: %s",
			 X509_verify_cert_error_string(verified));
	else
		snprintf(why, sizeof(why), "TLS: %s", tls_context_reason());
	return fail(b, EPROTO, why);
}

/* The result of an operation of OpenSSL that did not succeed: what it waits for. */
static enum need tls_needs(struct tls_bridge *b, int r)
{
	const int ssl_error = SSL_get_error(b->ssl, r);

	switch (ssl_error) {
	case SSL_ERROR_WANT_READ:
		return NEED_FD_READ;
	case SSL_ERROR_WANT_WRITE:
		return NEED_FD_WRITE;
	}
	return fail_tls(b, ssl_error);
}

/* OpenSSL reports errors through a queue of the thread, which must be empty before. */
static void before_tls(void)
{
	ERR_clear_error();
	errno = 0;
}

/* Bridges: the flows */

static bool keep(struct flow *flow, const char *data, size_t len)
{
	flow->kept = malloc(sizeof(*flow->kept) + len);
	if (!flow->kept)
		return false;
	*flow->kept = (struct kept){ .len = len };
	memcpy(flow->kept->data, data, len);
	return true;
}

/* n bytes of the kept piece are written. */
static void drop(struct flow *flow, size_t n)
{
	flow->kept->off += n;
	flow->kept->len -= n;
	if (flow->kept->len == 0)
		free_kept(flow);
}

/* Sends len bytes, or what is kept if data is NULL. Keeps what is not sent. */
static enum need write_up(struct tls_bridge *b, const char *data, size_t len)
{
	struct kept *kept = b->up.kept;
	enum need need;
	int n;

	before_tls();
	n = SSL_write(b->ssl, data ? data : kept->data + kept->off, (int)(data ? len : kept->len));
	if (n > 0) {
		if (!data)
			drop(&b->up, (size_t)n);
		else if ((size_t)n < len && !keep(&b->up, data + n, len - (size_t)n))
			return fail(b, ENOMEM, NULL);
		return NEED_TURN;
	}
	need = tls_needs(b, n);
	if (need != NEED_FAILED && data && !keep(&b->up, data, len))
		return fail(b, ENOMEM, NULL);
	return need;
}

/* The near end has ended, and everything before that is sent: sends close_notify. */
static enum need end_up(struct tls_bridge *b)
{
	int r;

	before_tls();
	/* 0: it is sent, and the upstream's is still to come. */
	r = SSL_shutdown(b->ssl);
	if (r < 0)
		return tls_needs(b, r);
	b->notified = true;
	return NEED_NOTHING;
}

static enum need move_up(struct tls_bridge *b)
{
	ssize_t n;

	if (b->notified)
		return NEED_NOTHING;
	if (b->up.kept)
		return write_up(b, NULL, 0);
	if (b->up.eof)
		return end_up(b);
	n = recv(b->far, b->home->scratch, PIECE, 0);
	if (n > 0) {
		struct tls_home *home = b->home;
		enum need need = write_up(b, home->scratch, (size_t)n);

		explicit_bzero(home->scratch, (size_t)n);
		if (need == NEED_FAILED)
			return need;

		/* A short read: there is no more. */
		return need == NEED_TURN && n < PIECE && !b->up.kept ? NEED_FAR_READ : need;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return NEED_FAR_READ;
	/* An error: the near end was closed, and had not read everything. */
	b->up.eof = true;
	return NEED_TURN;
}

/* Writes len bytes to the pair, or what is kept if data is NULL. Keeps what is not written. */
static enum need write_down(struct tls_bridge *b, const char *data, size_t len)
{
	struct kept *kept = b->down.kept;
	ssize_t n = send(b->far, data ? data : kept->data + kept->off, data ? len : kept->len,
			 MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		/* The near end is closed: nobody reads this. */
		free_kept(&b->down);
		b->down.eof = true;
		return NEED_NOTHING;
	}
	if (n < 0)
		n = 0;
	if (!data)
		drop(&b->down, (size_t)n);
	else if ((size_t)n < len && !keep(&b->down, data + n, len - (size_t)n))
		return fail(b, ENOMEM, NULL);
	return b->down.kept ? NEED_FAR_WRITE : NEED_TURN;
}

static enum need move_down(struct tls_bridge *b)
{
	int n;

	if (b->down.eof || b->closed)
		return NEED_NOTHING;
	if (b->down.kept)
		return write_down(b, NULL, 0);
	before_tls();
	n = SSL_read(b->ssl, b->home->scratch, PIECE);
	if (n > 0)
		return write_down(b, b->home->scratch, (size_t)n);
	if (SSL_get_error(b->ssl, n) != SSL_ERROR_ZERO_RETURN)
		return tls_needs(b, n);
	b->down.eof = true;
	shutdown(b->far, SHUT_WR);
	return NEED_NOTHING;
}

/* Moves a flow on, as far as that is possible in one turn. */
static enum need run(struct tls_bridge *b, enum need (*move)(struct tls_bridge *b))
{
	enum need need = NEED_TURN;
	int i;

	for (i = 0; i < ROUNDS_MAX && need == NEED_TURN; i++)
		need = move(b);
	return need;
}

/* True if an event is what a flow needs. */
static bool has_come(const struct tls_bridge *b, enum need need, evutil_socket_t fd, short what)
{
	switch (need) {
	case NEED_FD_READ:
		return fd == b->fd && (what & EV_READ);
	case NEED_FD_WRITE:
		return fd == b->fd && (what & EV_WRITE);
	case NEED_FAR_READ:
		return fd == b->far && (what & EV_READ);
	case NEED_FAR_WRITE:
		return fd == b->far && (what & EV_WRITE);
	default:
		return need == NEED_TURN;
	}
}

/*
 * Waits for what the flows need. A flow whose turn has ended waits for its source: if there is
 * more, that is reported again. The exception is a piece that is kept.
 */
static void set_waits(struct tls_bridge *b)
{
	const enum need up = b->up_needs, down = b->down_needs;
	short fd = 0, far = 0;

	if (up == NEED_FD_READ || down == NEED_FD_READ)
		fd |= EV_READ;
	if (up == NEED_FD_WRITE || down == NEED_FD_WRITE)
		fd |= EV_WRITE;
	if (up == NEED_FAR_READ)
		far |= EV_READ;
	if (down == NEED_FAR_WRITE)
		far |= EV_WRITE;
	if (set_wait(b, &b->fd_event, b->fd, &b->fd_waits, fd) < 0 ||
	    set_wait(b, &b->far_event, b->far, &b->far_waits, far) < 0) {
		fail(b, ENOMEM, NULL);
		return;
	}
	/* After close_notify both ways a reset says nothing. */
	note_blocked(b, fd == 0 && !(b->notified && b->down.eof));
}

/* Returns false if the bridge may be freed, or if the handshake goes on. */
static bool shake_hands(struct tls_bridge *b)
{
	enum need need;
	int r;

	before_tls();
	r = SSL_connect(b->ssl);
	if (r != 1) {
		need = tls_needs(b, r);
		if (need == NEED_FAILED)
			return false;
		b->up_needs = need;
		b->down_needs = NEED_NOTHING;
		set_waits(b);
		return false;
	}
	b->open = true;
	b->up_needs = b->down_needs = NEED_TURN;
	return b->closed || report(b, 0, NULL);
}

/* Moves both flows on, as far as they do not wait for something else than what has come. */
static void move(struct tls_bridge *b, evutil_socket_t fd, short what)
{
	enum need up = b->up_needs, down = b->down_needs;

	if (has_come(b, up, fd, what)) {
		up = run(b, move_up);
		if (up == NEED_FAILED)
			return;
	}
	if (has_come(b, down, fd, what)) {
		down = run(b, move_down);
		if (down == NEED_FAILED)
			return;
	}
	if (b->closed && b->notified) {
		end(b, /* reset= */ false);
		return;
	}
	if (up == NEED_TURN)
		up = b->up.kept || b->up.eof ? NEED_FD_WRITE : NEED_FAR_READ;
	if (down == NEED_TURN)
		down = b->down.kept ? NEED_FAR_WRITE : NEED_FD_READ;
	b->up_needs = up;
	b->down_needs = down;
	set_waits(b);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct tls_bridge *b = arg;

	if (what & EV_TIMEOUT)
		end(b, /* reset= */ true);
	else if (b->open || shake_hands(b))
		move(b, fd, what);
}

/* Level-triggered events of a socket that is not polled report no reset. */
static void on_probe(evutil_socket_t fd, short what, void *arg)
{
	struct tls_home *home = arg;
	struct tls_bridge *b, *next;

	for (b = LIST_FIRST(&home->bridges); b; b = next) {
		struct pollfd poll_fd = { .fd = b->fd };
		int error = 0;
		socklen_t len = sizeof(error);

		/* fail() may free this bridge, and no other. */
		next = LIST_NEXT(b, entry);
		if (!b->blocked || poll(&poll_fd, 1, 0) <= 0 || !(poll_fd.revents & POLLERR))
			continue;
		getsockopt(b->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		error = error ? error : ECONNRESET;
		fail(b, error, strerror(error));
	}
}

int tls_home_init(struct tls_home *home, struct event_base *base)
{
	*home = (struct tls_home){ .base = base };
	LIST_INIT(&home->bridges);
	home->probe = event_new(base, -1, EV_PERSIST, on_probe, home);
	home->scratch = malloc(PIECE);
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
	free(home->scratch);
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
	*b = (struct tls_bridge){ .home = home, .fd = fd, .done = done, .data = data, .far = -1 };
	r = make_pair(&b->far, &near);
	if (r < 0) {
		close(fd);
		free(b);
		return r;
	}
	LIST_INSERT_HEAD(&home->bridges, b, entry);
	home->n++;
	b->context = tls_context_ref(context);
	before_tls();
	b->ssl = tls_context_connect(context, fd);
	sock_abort_on_close(fd);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!b->ssl || set_wait(b, &b->fd_event, fd, &b->fd_waits, EV_WRITE) < 0) {
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
	if (reset || b->failed) {
		end(b, /* reset= */ true);
		return;
	}
	b->closed = true;
	/* What waits in the pair is sent. */
	b->up_needs = NEED_FD_WRITE;
	/* From the event loop: the caller closes the near end first. */
	if (set_wait(b, &b->fd_event, b->fd, &b->fd_waits, EV_WRITE) < 0)
		end(b, /* reset= */ true);
}

void tls_bridge_set_owner(struct tls_bridge *b, tls_done_fn done, void *data)
{
	b->done = done;
	b->data = data;
}

int tls_bridge_fd(const struct tls_bridge *b)
{
	return b->fd;
}

const char *tls_bridge_describe(const struct tls_bridge *b, char buf[TLS_WHY_LEN])
{
	snprintf(buf, TLS_WHY_LEN, "%s %s%s", SSL_get_version(b->ssl), SSL_get_cipher_name(b->ssl),
		 SSL_session_reused(b->ssl) ? ", resumed" : "");
	return buf;
}
