/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tproxy-bare: a minimal relay between two TCP connections, as a lower bound for all others, and a
 * minimal SOCKS5 server, for relays that send to one.
 *
 * One thread per CPU, each with its own epoll instance; all wait for the one listener. For each
 * client: accept4, getsockopt(SO_ORIGINAL_DST), socket, a blocking connect(), two epoll_ctl(); then
 * read and write through one buffer for each thread. No policy, no timeout, no limit, no log, no
 * spinning; IPv4 only. A destination that does not answer blocks the thread, which is acceptable
 * with one server on the same machine. For benchmarks only.
 *
 * With --socks5 the destination is not SO_ORIGINAL_DST, but what the client asks for by RFC 1928:
 * no authentication, CONNECT to an IPv4 address. A client may send everything at once.
 *
 * Usage: tproxy-bare [--socks5] ADDR PORT. It runs until it is killed, or for two hours.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIFETIME_SECONDS 7200
#define BUFFER_SIZE	 (256 * 1024)
#define EVENTS_AT_ONCE	 32

enum socks5_step {
	SOCKS5_DONE,
	SOCKS5_GREETING,
	SOCKS5_REQUEST
};
#define SOCKS5_GREETING_SIZE 2 /* and one byte for each method */
#define SOCKS5_REQUEST_SIZE  10
#define SOCKS5_BYTES_MAX     (SOCKS5_GREETING_SIZE + UINT8_MAX + SOCKS5_REQUEST_SIZE)

struct pair;

/* One of the two connections, with the bytes from the other one that it has not taken yet. */
struct side {
	struct pair *pair;
	struct side *peer;
	int fd;
	uint32_t events; /* registered with epoll */
	bool ended;	 /* EOF was read from it */
	char *rest;	 /* on the heap; sent to this side before the peer is read again */
	size_t rest_size;
	size_t rest_sent;
};

struct pair {
	struct side client, server;
	enum socks5_step step; /* until it is SOCKS5_DONE, the server side has no socket */
	unsigned char asked[SOCKS5_BYTES_MAX];
	size_t asked_size;
	struct pair *next_dead;
	bool dead; /* closed; freed after the current batch of events, which may refer to it */
};

struct worker {
	pthread_t thread;
	int listen_fd;
	int epoll_fd;
	bool socks5;
	struct pair *dead;
	char buffer[BUFFER_SIZE];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void pair_close(struct worker *w, struct pair *p, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (p->dead)
		return;
	if (reset) {
		setsockopt(p->client.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		if (p->step == SOCKS5_DONE)
			setsockopt(p->server.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	}
	close(p->client.fd);
	if (p->step == SOCKS5_DONE)
		close(p->server.fd);
	p->dead = true;
	p->next_dead = w->dead;
	w->dead = p;
}

/* Watches for input while the peer has room, and for output while bytes are left for this side. */
static void side_watch(struct worker *w, struct side *s)
{
	struct epoll_event event = { .data.ptr = s };

	if (!s->ended && !s->peer->rest)
		event.events |= EPOLLIN;
	if (s->rest)
		event.events |= EPOLLOUT;
	if (!event.events)
		event.events = EPOLLET; /* edge-triggered: reports an error once, and does not spin
					   on EPOLLHUP */
	if (event.events == s->events)
		return;
	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, s->fd, &event) < 0)
		die("epoll_ctl");
	s->events = event.events;
}

/* Returns false if the pair is to be reset. */
static bool side_send(struct worker *w, struct side *s, const char *bytes, size_t size)
{
	ssize_t n = send(s->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		return false;
	n = n < 0 ? 0 : n;
	if ((size_t)n == size)
		return true;

	s->rest_size = size - (size_t)n;
	s->rest_sent = 0;
	s->rest = malloc(s->rest_size);
	if (!s->rest)
		die("malloc");
	memcpy(s->rest, bytes + n, s->rest_size);
	side_watch(w, s);
	side_watch(w, s->peer);
	return true;
}

/* Passes on EOF, after the last byte. The pair is closed when both sides have ended. */
static void side_end(struct worker *w, struct side *s)
{
	s->ended = true;
	if (s->peer->ended)
		pair_close(w, s->pair, false);
	else if (shutdown(s->peer->fd, SHUT_WR) < 0)
		pair_close(w, s->pair, true);
	else
		side_watch(w, s);
}

static void socks5_on_readable(struct worker *w, struct pair *p);

static void side_on_readable(struct worker *w, struct side *s)
{
	ssize_t n;

	if (s->pair->step != SOCKS5_DONE) {
		socks5_on_readable(w, s->pair);
		return;
	}
	n = recv(s->fd, w->buffer, sizeof(w->buffer), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n == 0)
		side_end(w, s);
	else if (n < 0 || !side_send(w, s->peer, w->buffer, (size_t)n))
		pair_close(w, s->pair, true);
}

static void side_on_writable(struct worker *w, struct side *s)
{
	ssize_t n = send(s->fd, s->rest + s->rest_sent, s->rest_size - s->rest_sent,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0) {
		if (errno != EAGAIN)
			pair_close(w, s->pair, true);
		return;
	}
	s->rest_sent += (size_t)n;
	if (s->rest_sent < s->rest_size)
		return;
	free(s->rest);
	s->rest = NULL;
	side_watch(w, s);
	side_watch(w, s->peer);
}

/* A side that has sent EOF and has nothing left to take is watched for errors only. */
static void side_on_event(struct worker *w, struct side *s, uint32_t events)
{
	if (s->pair->dead)
		return;
	if (s->rest && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		side_on_writable(w, s);
	else if (s->events & EPOLLIN)
		side_on_readable(w, s);
	else if (events & EPOLLERR)
		pair_close(w, s->pair, true);
}

static void side_start(struct worker *w, struct side *s, struct side *peer, struct pair *p, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = s };

	s->pair = p;
	s->peer = peer;
	s->fd = fd;
	s->events = event.events;
	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

/* Returns a connected socket, or -1. */
static int connect_to(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/*
 * Returns a socket connected to the original destination, or -1. tproxy's getsockopt program
 * answers SO_ORIGINAL_DST.
 */
static int connect_upstream(int client_fd)
{
	struct sockaddr_in address;
	socklen_t size = sizeof(address);

	if (getsockopt(client_fd, SOL_IP, SO_ORIGINAL_DST, &address, &size) < 0)
		return -1;
	return connect_to(&address);
}

/*
 * Answers one message of the client, if @bytes has all of it. Returns its size, 0 if it is not
 * complete, or -1 to end the connection.
 */
static int socks5_answer(struct worker *w, struct pair *p, const unsigned char *bytes, size_t size)
{
	static const unsigned char no_authentication[] = { 5, 0 };
	static const unsigned char connected[SOCKS5_REQUEST_SIZE] = { 5, 0, 0, 1 };
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd;

	if (p->step == SOCKS5_GREETING) {
		if (size < SOCKS5_GREETING_SIZE || size < SOCKS5_GREETING_SIZE + (size_t)bytes[1])
			return 0;
		p->step = SOCKS5_REQUEST;
		if (send(p->client.fd, no_authentication, sizeof(no_authentication),
			 MSG_NOSIGNAL) != sizeof(no_authentication))
			return -1;
		return SOCKS5_GREETING_SIZE + bytes[1];
	}
	if (size < SOCKS5_REQUEST_SIZE)
		return 0;
	memcpy(&address.sin_addr, bytes + 4, sizeof(address.sin_addr));
	memcpy(&address.sin_port, bytes + 8, sizeof(address.sin_port));
	fd = bytes[0] == 5 && bytes[1] == 1 && bytes[3] == 1 ? connect_to(&address) : -1;
	if (fd < 0)
		return -1;
	p->step = SOCKS5_DONE;
	side_start(w, &p->server, &p->client, p, fd);
	if (send(p->client.fd, connected, sizeof(connected), MSG_NOSIGNAL) != sizeof(connected))
		return -1;
	return SOCKS5_REQUEST_SIZE;
}

static void socks5_on_readable(struct worker *w, struct pair *p)
{
	ssize_t n = recv(p->client.fd, p->asked + p->asked_size, sizeof(p->asked) - p->asked_size,
			 MSG_DONTWAIT);
	size_t used = 0;
	int size = 1;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0)
		p->asked_size += (size_t)n;
	else
		size = -1;
	while (size > 0 && p->step != SOCKS5_DONE) {
		size = socks5_answer(w, p, p->asked + used, p->asked_size - used);
		used += size > 0 ? (size_t)size : 0;
	}
	p->asked_size -= used;
	memmove(p->asked, p->asked + used, p->asked_size);
	if (size < 0 || (p->step == SOCKS5_DONE && p->asked_size > 0 &&
			 !side_send(w, &p->server, (const char *)p->asked, p->asked_size)))
		pair_close(w, p, true);
}

static void socks5_start(struct worker *w, int client_fd)
{
	struct pair *p = calloc(1, sizeof(*p));

	if (!p)
		die("calloc");
	p->step = SOCKS5_GREETING;
	side_start(w, &p->client, &p->server, p, client_fd);
	socks5_on_readable(w, p);
}

static void worker_accept(struct worker *w)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	int client_fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	int server_fd;
	struct pair *p;

	if (client_fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		die("accept4");
	}
	if (w->socks5) {
		socks5_start(w, client_fd);
		return;
	}
	server_fd = connect_upstream(client_fd);
	if (server_fd < 0) {
		setsockopt(client_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(client_fd);
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		die("calloc");
	side_start(w, &p->client, &p->server, p, client_fd);
	side_start(w, &p->server, &p->client, p, server_fd);
	/* The client's first bytes have usually arrived already: read without waiting for epoll. */
	side_on_readable(w, &p->client);
}

static void free_dead(struct worker *w)
{
	struct pair *p;

	while ((p = w->dead)) {
		w->dead = p->next_dead;
		free(p->client.rest);
		free(p->server.rest);
		free(p);
	}
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
				side_on_event(w, events[i].data.ptr, events[i].events);
			else
				worker_accept(w);
		}
		free_dead(w);
	}
	return NULL;
}

static void worker_start(struct worker *w, int listen_fd, bool socks5)
{
	/* NULL marks the listener, which has no side. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = NULL };

	w->listen_fd = listen_fd;
	w->socks5 = socks5;
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0)
		die("epoll");
	errno = pthread_create(&w->thread, NULL, worker_main, w);
	if (errno)
		die("pthread_create");
}

static int listener_open(const char *host, const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || atoi(port) < 1 ||
	    atoi(port) > UINT16_MAX) {
		fprintf(stderr, "tproxy-bare: bad address %s port %s\n", host, port);
		exit(2);
	}
	address.sin_port = htons((uint16_t)atoi(port));
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	/* Accepted sockets inherit it. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		die("bind");
	if (listen(fd, SOMAXCONN) < 0)
		die("listen");
	return fd;
}

int main(int argc, char **argv)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t count = cpus > 0 ? (size_t)cpus : 1;
	struct worker *workers = calloc(count, sizeof(*workers));
	bool socks5 = argc > 1 && strcmp(argv[1], "--socks5") == 0;
	struct rlimit limit;
	int listen_fd;

	if (argc != 3 + socks5) {
		fputs("Usage: tproxy-bare [--socks5] ADDR PORT\n", stderr);
		return 2;
	}
	if (!workers)
		die("calloc");
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	listen_fd = listener_open(argv[1 + socks5], argv[2 + socks5]);
	for (size_t i = 0; i < count; i++)
		worker_start(&workers[i], listen_fd, socks5);

	/* The threads never end. */
	sleep(LIFETIME_SECONDS);
	fprintf(stderr, "tproxy-bare: ended after %d s\n", LIFETIME_SECONDS);
	return 1;
}
