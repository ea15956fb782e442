// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See chaos.h: the clients. */
#define _GNU_SOURCE
#include "chaos.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof(*(array)))

#define PORTS_SHARED 20
#define THREADS_MAX  256
#define AGAIN_MAX    3 /* how often a socket is connected again */

enum kind {
	OPEN,
	SLOW,
	CLOSED,
	BLACK
};
static const char *const kind_names[] = { "open", "slow", "closed", "black" };

struct target {
	enum kind kind;
	union address address;
};

static struct target targets[TARGETS_MAX];
static size_t n_targets;
static int first_port;
static _Atomic long left;

static unsigned int below(uint64_t *state, unsigned int limit)
{
	return (next_random(state) >> 32) % limit;
}

static bool chance(uint64_t *state, unsigned int percent)
{
	return below(state, 100) < percent;
}

static void close_reset(int fd)
{
	const struct linger reset = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

struct attempt {
	uint64_t *random;
	const struct target *target;
	int fd;
	bool shared_port;
	bool impatient; /* may give up */
	unsigned int limit_us;
};

/* Another client with the same source port may be joined in place of one that has just given up:
 * such a connection is reset before it has carried a byte (HONEST CONNECT in tproxy-relay(8)). */
static bool is_undone(const struct attempt *a, size_t n, int error)
{
	if (n || (error != ECONNRESET && error != EPIPE))
		return false;
	count(a->shared_port ? UNDONE : REUSED);
	return true;
}

static void wait_in_calls(struct attempt *a)
{
	fcntl(a->fd, F_SETFL, 0);
	set_limit(a->fd, PATIENCE_US);
}

static void fill_header(struct attempt *a, struct header *header)
{
	const unsigned int limit = chance(a->random, 70) ? 512 : STREAM_MAX;

	*header = (struct header){
		.magic = MAGIC,
		.id = next_random(a->random),
		.port = ntohs(a->target->address.in.sin_port),
		.up = below(a->random, limit),
		.down = below(a->random, limit),
		.cut = chance(a->random, 10),
	};
	map_address(&a->target->address, header->address);
}

/* Closes the socket. */
static void exchange(struct attempt *a)
{
	uint8_t up[sizeof(struct header) + STREAM_MAX], got[STREAM_MAX + 1], expected[STREAM_MAX];
	struct header header;
	size_t n, size;
	int error = 0;

	wait_in_calls(a);
	fill_header(a, &header);
	memcpy(up, &header, sizeof(header));
	fill_stream(up + sizeof(header), header.up, header.id, false);
	size = sizeof(header) + header.up;
	if (header.cut && chance(a->random, 50))
		size = sizeof(header) + below(a->random, header.up + 1);
	if (!write_all(a->fd, up, size))
		error = errno;
	if (header.cut) {
		count(CUT);
		close_reset(a->fd);
		return;
	}
	if (!error && chance(a->random, 50))
		shutdown(a->fd, SHUT_WR);
	fill_stream(expected, header.down, header.id, true);
	n = read_some(a->fd, got, header.down + 1, &error);
	if (memcmp(got, expected, n < header.down ? n : header.down) != 0)
		wrong("client: connection %lx: wrong bytes", header.id);
	else if (n == header.down && !error)
		count(REACHED);
	else if (!is_undone(a, n, error))
		wrong("client: connection %lx (%s): %zu of %u bytes, %s", header.id,
		      kind_names[a->target->kind], n, header.down, strerror(error));
	close(a->fd);
}

/* connect() has succeeded although nothing can be reached. Closes the socket. */
static void reached_nothing(struct attempt *a)
{
	char byte;
	int error;
	size_t n;

	wait_in_calls(a);
	n = read_some(a->fd, &byte, 1, &error);
	if (!is_undone(a, n, error))
		wrong("client: connected to %s, %zu bytes, %s", kind_names[a->target->kind], n,
		      strerror(error));
	close(a->fd);
}

/* connect() has failed. Closes the socket. */
static void failed(struct attempt *a, int error)
{
	if (a->shared_port && (error == EADDRNOTAVAIL || error == EADDRINUSE))
		count(BUSY);
	else if (a->target->kind == CLOSED && error == ECONNREFUSED)
		count(REFUSED);
	else
		wrong("client: connect() to %s: %s", kind_names[a->target->kind], strerror(error));
	close(a->fd);
}

/* Gives up a connect() that is pending. Returns true if the socket can be connected again. */
static bool give_up(struct attempt *a)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	count(GIVEN_UP);
	switch (below(a->random, 4)) {
	case 0:
		close_reset(a->fd);
		return false;
	case 1:
		shutdown(a->fd, SHUT_RDWR);
		break;
	case 2:
		if (connect(a->fd, &none, sizeof(none)) == 0)
			return true;
		wrong("client: connect() to AF_UNSPEC: %s", strerror(errno));
		break;
	}
	close(a->fd);
	return false;
}

/* Waits in connect() or in ppoll(). Returns 0 or the errno: EINPROGRESS if it is still pending. */
static int call_connect(struct attempt *a)
{
	const union address *to = &a->target->address;
	const struct timespec limit = { a->limit_us / 1000000, a->limit_us % 1000000 * 1000 };
	const bool in_poll = chance(a->random, 50);
	struct pollfd poll_fd = { .fd = a->fd, .events = POLLOUT };
	socklen_t size = sizeof(int);
	int error = 0;

	count(CONNECTS);
	fcntl(a->fd, F_SETFL, in_poll ? O_NONBLOCK : 0);
	set_limit(a->fd, a->limit_us);
	if (connect(a->fd, &to->sa,
		    to->sa.sa_family == AF_INET ? sizeof(to->in) : sizeof(to->in6)) == 0)
		return 0;
	if (!in_poll || errno != EINPROGRESS)
		return errno;
	if (ppoll(&poll_fd, 1, &limit, NULL) == 0)
		return EINPROGRESS;
	if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		return errno;
	return error;
}

/* A socket that was connected to an IPv4-mapped address cannot reach an IPv6 address afterwards:
 * Linux goes on with IPv4. */
static bool is_same_kind(const union address *a, const union address *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	return a->sa.sa_family == AF_INET ||
	       IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr) == IN6_IS_ADDR_V4MAPPED(&b->in6.sin6_addr);
}

static void choose_target(struct attempt *a)
{
	const struct target *before = a->target;

	do {
		a->target = &targets[below(a->random, n_targets)];
	} while (before && !is_same_kind(&a->target->address, &before->address));
	a->impatient = a->target->kind == BLACK || chance(a->random, 15);
	/* Half of them give up while the relay connects, which takes less than a millisecond. */
	a->limit_us = a->impatient ? 1 + below(a->random, chance(a->random, 50) ? 500 : 40000)
				   : PATIENCE_US;
}

/* Returns false if another client has the port. */
static bool bind_shared(struct attempt *a)
{
	union address any = { .sa.sa_family = a->target->address.sa.sa_family };
	const int on = 1;

	any.in.sin_port = htons(first_port + below(a->random, PORTS_SHARED));
	setsockopt(a->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return bind(a->fd, &any.sa, sizeof(any)) == 0;
}

static void end(struct attempt *a, int error)
{
	if (error)
		failed(a, error);
	else if (a->target->kind == CLOSED || a->target->kind == BLACK)
		reached_nothing(a);
	else
		exchange(a);
}

static int port_of(int fd)
{
	union address own;
	socklen_t size = sizeof(own);

	return getsockname(fd, &own.sa, &size) < 0 ? -1 : ntohs(own.in.sin_port);
}

static void attempt(uint64_t *random)
{
	struct attempt a = { .random = random, .shared_port = chance(random, 30) };
	int error, again;

	choose_target(&a);
	a.fd = socket(a.target->address.sa.sa_family, SOCK_STREAM, 0);
	if (a.fd < 0) {
		wrong("client: socket: %s", strerror(errno));
		return;
	}
	if (a.shared_port && !bind_shared(&a)) {
		failed(&a, errno);
		return;
	}
	for (again = 0; again < AGAIN_MAX; again++) {
		error = call_connect(&a);
		if (error != EINPROGRESS) {
			end(&a, error);
			return;
		}
		if (!a.impatient) {
			wrong("client: %s: still pending%s%s, port %d", kind_names[a.target->kind],
			      again ? ", again" : "", a.shared_port ? ", shared" : "",
			      port_of(a.fd));
			close(a.fd);
			return;
		}
		if (!give_up(&a))
			return;
		count(AGAIN);
		choose_target(&a);
	}
	close(a.fd);
}

static void *run_client(void *data)
{
	uint64_t random = *(uint64_t *)data;

	while (atomic_fetch_sub(&left, 1) > 0)
		attempt(&random);
	return NULL;
}

static bool parse_target(char **words)
{
	struct target *target = &targets[n_targets++];
	size_t kind;

	for (kind = 0; kind < ARRAY_SIZE(kind_names); kind++) {
		if (strcmp(words[0], kind_names[kind]) == 0)
			break;
	}
	target->kind = kind;
	target->address.in.sin_port = htons(atoi(words[2]));
	target->address.sa.sa_family = strchr(words[1], ':') ? AF_INET6 : AF_INET;
	if (target->address.sa.sa_family == AF_INET6)
		return inet_pton(AF_INET6, words[1], &target->address.in6.sin6_addr) == 1;
	return inet_pton(AF_INET, words[1], &target->address.in.sin_addr) == 1;
}

int run_clients(char **words, int n)
{
	static pthread_t threads[THREADS_MAX];
	static uint64_t seeds[THREADS_MAX];
	const int n_threads = atoi(words[1]);
	uint64_t seed = strtoull(words[2], NULL, 0) | 1;
	int i;

	left = atol(words[0]);
	first_port = atoi(words[3]);
	for (i = 4; i + 2 < n && n_targets < TARGETS_MAX; i += 3) {
		if (!parse_target(words + i)) {
			fprintf(stderr, "chaos: %s is no address\n", words[i + 1]);
			return 1;
		}
	}
	for (i = 0; i < n_threads && i < THREADS_MAX; i++) {
		seeds[i] = next_random(&seed);
		if (pthread_create(&threads[i], NULL, run_client, &seeds[i])) {
			perror("chaos");
			return 1;
		}
	}
	while (i > 0)
		pthread_join(threads[--i], NULL);
	return print_counts() != 0;
}
