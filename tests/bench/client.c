/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See client.h: the steps of the workloads (latency.c, bulk.c, hold.c). A step that fails counts
 * the failure and returns -1; the workload decides whether to go on.
 *
 * No socket that is measured has a timeout of its own, which would cost a system call for each
 * connection. The main thread watches the progress of all clients instead (run.c).
 */
#include "client.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"
#include "shape.h"

uint64_t client_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

int client_fail(struct client *c, const char *format, ...)
{
	va_list args;

	if (c->failures++ == 0) {
		va_start(args, format);
		vsnprintf(c->reason, sizeof(c->reason), format, args);
		va_end(args);
	}
	return -1;
}

int client_fail_errno(struct client *c, const char *what)
{
	return client_fail(c, "%s: %s", what, strerror(errno));
}

void client_progress(struct client *c, uint64_t amount)
{
	atomic_fetch_add_explicit(&c->progress, amount, memory_order_relaxed);
}

int client_connect(struct client *c)
{
	return client_connect_to(c, &c->options->address);
}

int client_connect_to(struct client *c, const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return client_fail_errno(c, "socket");
	if (client_connect_with(c, fd, address) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int client_connect_with(struct client *c, int fd, const struct sockaddr_in *address)
{
	const struct shape *shape = c->options->shape;

	if (shape)
		shape_prepare(fd, shape, &shape->client, false);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return client_fail_errno(c, "connect");
	if (shape)
		shape_prepare(fd, shape, &shape->client, true);
	else
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	return 0;
}

int client_receive(struct client *c, int fd, void *ret_bytes, size_t size)
{
	ssize_t n = recv(fd, ret_bytes, size, MSG_WAITALL);

	if (n < 0)
		return client_fail_errno(c, "recv");
	if ((size_t)n != size)
		return client_fail(c, "end of file after %zd of %zu bytes", n, size);
	return 0;
}

int client_exchange(struct client *c, int fd, uint64_t number)
{
	unsigned char request[MESSAGE_SIZE] = { OP_ECHO };
	unsigned char response[MESSAGE_SIZE];

	memcpy(request + sizeof(number), &number, sizeof(number));
	if (send(fd, request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
		return client_fail_errno(c, "send");
	if (client_receive(c, fd, response, sizeof(response)) < 0)
		return -1;
	if (memcmp(request, response, sizeof(request)) != 0)
		return client_fail(c, "the response is not the request");
	client_progress(c, 1);
	return 0;
}
