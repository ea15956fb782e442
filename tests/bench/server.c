/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The server: echo, sink, source, pieces and shapes on one port, see pattern.h. A connection that
 * begins with a SOCKS5 greeting goes on after the handshake, whatever destination it names: so the
 * relay's share of a connection through a proxy can be measured without a proxy that copies.
 *
 * One thread per CPU, or as many as asked for, each with its own epoll instance. All of them wait
 * for the one listener (EPOLLEXCLUSIVE), so an idle thread takes the next connection. The thread
 * that accepted a connection owns it. A failed connection is reset, never closed in order, so that
 * the client notices. An error that would falsify the numbers, such as no descriptors left, ends
 * the server.
 */
#include "server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pattern.h"
#include "shape.h"

#define LIFETIME_SECONDS 3600
#define EVENTS_AT_ONCE	 4
#define SOCKS5		 5 /* RFC 1928; no op has this number */

struct conn {
	int fd;
	int op;	     /* enum op; 0 = its byte has not arrived yet */
	int socks;   /* messages of SOCKS5 that were answered */
	bool ending; /* only the rest of end is left to send */
	size_t end_sent;
	struct bulk_end end;
	struct bulk_piece piece; /* OP_PIECES: what is left of it */
	size_t piece_received;	 /* bytes of its header */
	uint64_t taken;		 /* bytes of the pattern that pieces have brought */
};

/* What remains to be done with a connection after an event. */
enum verdict {
	CONN_KEEP,
	CONN_CLOSE,
	CONN_RESET,
	CONN_GIVEN, /* a thread of shape.c owns its descriptor now */
};

struct worker {
	pthread_t thread;
	int listen_fd;
	int epoll_fd;
	unsigned char buffer[PATTERN_CHUNK]; /* empty between events */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static bool would_block(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static enum verdict conn_send_end(struct conn *c)
{
	const char *rest = (const char *)&c->end + c->end_sent;
	ssize_t n = send(c->fd, rest, sizeof(c->end) - c->end_sent, MSG_NOSIGNAL);

	if (n < 0)
		return would_block(n) ? CONN_KEEP : CONN_RESET;
	c->end_sent += (size_t)n;
	return c->end_sent == sizeof(c->end) ? CONN_CLOSE : CONN_KEEP;
}

static void conn_watch(struct conn *c, struct worker *w, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = c };

	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0)
		die("epoll_ctl");
}

/* The client has sent its FIN in a bulk transfer: from now on only writability matters. */
static enum verdict conn_end(struct conn *c, struct worker *w)
{
	c->ending = true;
	conn_watch(c, w, EPOLLOUT);
	return CONN_KEEP;
}

/*
 * A message is far smaller than an empty send buffer, so a short send means that the client never
 * reads.
 */
static enum verdict conn_echo(struct conn *c, const unsigned char *bytes, size_t size)
{
	return send(c->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size ? CONN_KEEP : CONN_RESET;
}

static void conn_sink(struct conn *c, const unsigned char *bytes, size_t size)
{
	if (!pattern_matches(bytes, size, c->end.bytes))
		c->end.intact = 0;
	c->end.bytes += size;
}

/* Takes bytes of a request: first its header, in whatever parts. The answer follows the last. */
static enum verdict conn_take_piece(struct conn *c, struct worker *w, const unsigned char *bytes,
				    size_t size)
{
	size_t header = sizeof(c->piece) - c->piece_received;

	if (header > size)
		header = size;
	memcpy((char *)&c->piece + c->piece_received, bytes, header);
	c->piece_received += header;
	bytes += header;
	size -= header;
	if (c->piece_received < sizeof(c->piece))
		return CONN_KEEP;

	if (c->piece.down == 0 || size > c->piece.up || !pattern_matches(bytes, size, c->taken))
		return CONN_RESET;
	c->taken += size;
	c->piece.up -= size;
	if (c->piece.up == 0)
		conn_watch(c, w, EPOLLIN | EPOLLOUT);
	return CONN_KEEP;
}

/* Sends more of the pattern: the rest of a piece, or without end. */
static enum verdict conn_send(struct conn *c, struct worker *w)
{
	const bool is_piece = c->op == OP_PIECES;
	const uint64_t rest = is_piece ? c->piece.down : PATTERN_CHUNK;
	const size_t chunk = rest < PATTERN_CHUNK ? (size_t)rest : PATTERN_CHUNK;
	ssize_t n = send(c->fd, pattern_at(c->end.bytes), chunk, MSG_NOSIGNAL);

	if (n < 0)
		return would_block(n) ? CONN_KEEP : CONN_RESET;
	c->end.bytes += (size_t)n;
	if (is_piece) {
		c->piece.down -= (size_t)n;
		if (c->piece.down == 0) {
			c->piece_received = 0;
			conn_watch(c, w, EPOLLIN);
		}
	}
	return CONN_KEEP;
}

/* The exchanges of a shape use blocking calls, so each such connection gets a thread. */
static enum verdict conn_give(struct conn *c, struct worker *w, const unsigned char *bytes,
			      size_t size)
{
	int r;

	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL) < 0)
		die("epoll_ctl");
	r = shape_serve(c->fd, bytes, size);
	if (r < 0) {
		errno = -r;
		die("shape_serve");
	}
	return CONN_GIVEN;
}

/* The first byte has arrived and selects the operation. A source also watches for writability. */
static enum verdict conn_choose(struct conn *c, struct worker *w, int op)
{
	c->op = op;
	c->end.intact = 1;
	if (op == OP_DOWN)
		conn_watch(c, w, EPOLLIN | EPOLLOUT);
	return op == OP_ECHO || op == OP_UP || op == OP_DOWN || op == OP_PIECES || op == OP_SHAPE
		       ? CONN_KEEP
		       : CONN_RESET;
}

/* Each message comes as a whole, because its client waits for the answer to the one before. */
static enum verdict conn_answer_socks(struct conn *c, const unsigned char *bytes, size_t size)
{
	static const unsigned char method[] = { SOCKS5, 0 }, reply[10] = { SOCKS5, 0, 0, 1 };
	const bool greets = c->socks++ == 0;

	if (bytes[0] != SOCKS5 || size < (greets ? 3 : sizeof(reply)))
		return CONN_RESET;
	return greets ? conn_echo(c, method, sizeof(method)) : conn_echo(c, reply, sizeof(reply));
}

static enum verdict conn_on_readable(struct conn *c, struct worker *w)
{
	const unsigned char *bytes = w->buffer;
	ssize_t n = recv(c->fd, w->buffer, sizeof(w->buffer), 0);
	size_t size = (size_t)n;

	if (n < 0)
		return would_block(n) ? CONN_KEEP : CONN_RESET;
	if (n == 0)
		return c->op == OP_UP || c->op == OP_DOWN ? conn_end(c, w) : CONN_CLOSE;

	if (c->op == 0 && (c->socks == 1 || (c->socks == 0 && bytes[0] == SOCKS5)))
		return conn_answer_socks(c, bytes, size);
	if (c->op == 0) {
		if (conn_choose(c, w, bytes[0]) != CONN_KEEP)
			return CONN_RESET;
		if (c->op == OP_SHAPE)
			return conn_give(c, w, bytes + 1, size - 1);
		if (c->op != OP_ECHO) {
			bytes++;
			size--;
		}
	}
	if (c->op == OP_ECHO)
		return conn_echo(c, bytes, size);
	if (c->op == OP_PIECES)
		return conn_take_piece(c, w, bytes, size);
	if (c->op == OP_UP)
		conn_sink(c, bytes, size);
	return CONN_KEEP;
}

static enum verdict conn_on_writable(struct conn *c, struct worker *w)
{
	return c->ending ? conn_send_end(c) : conn_send(c, w);
}

static void conn_destroy(struct conn *c, enum verdict verdict)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	if (verdict == CONN_RESET)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (verdict != CONN_GIVEN)
		close(c->fd);
	free(c);
}

static void conn_on_event(struct conn *c, struct worker *w, uint32_t events)
{
	enum verdict verdict = CONN_KEEP;

	/* An error or hang-up is handled like data or room: recv() or send() reports it. */
	if (!c->ending && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		verdict = conn_on_readable(c, w);
	if (verdict == CONN_KEEP && (c->ending || (events & EPOLLOUT)))
		verdict = conn_on_writable(c, w);
	if (verdict != CONN_KEEP)
		conn_destroy(c, verdict);
}

/* Accepts one connection at a time, so that a burst spreads over the threads. */
static void worker_accept(struct worker *w)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct conn *c;
	int fd = accept4(w->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		die("accept4");
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		die("calloc");
	c->fd = fd;
	event.data.ptr = c;
	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct epoll_event events[EVENTS_AT_ONCE];

	for (;;) {
		int n = epoll_wait(w->epoll_fd, events, EVENTS_AT_ONCE, -1);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				conn_on_event(events[i].data.ptr, w, events[i].events);
			else
				worker_accept(w);
		}
	}
	return NULL;
}

static void worker_start(struct worker *w, int listen_fd)
{
	/* NULL marks the listener, which has no connection. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = NULL };

	w->listen_fd = listen_fd;
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0)
		die("epoll");
	errno = pthread_create(&w->thread, NULL, worker_main, w);
	if (errno)
		die("pthread_create");
}

static int listener_open(const struct sockaddr_in *address, unsigned int buffers)
{
	int size = (int)buffers;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	/* Accepted sockets inherit these options. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (size > 0) {
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	}
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		die("bind");
	if (listen(fd, SOMAXCONN) < 0)
		die("listen");
	return fd;
}

_Noreturn void server_run(const struct sockaddr_in *address, const struct server_options *options)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t count = options->threads > 0 ? options->threads : cpus > 0 ? (size_t)cpus : 1;
	struct worker *workers = calloc(count, sizeof(*workers));
	int listen_fd = listener_open(address, options->buffers);

	if (!workers)
		die("calloc");
	for (size_t i = 0; i < count; i++)
		worker_start(&workers[i], listen_fd);
	puts("ready");
	fflush(stdout);

	/* The threads never end. */
	sleep(LIFETIME_SECONDS);
	fprintf(stderr, "server: ended after %d s\n", LIFETIME_SECONDS);
	exit(1);
}
