// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See chaos.h: the servers. */
#include "chaos.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACCEPTORS 24 /* threads for each port */

static bool is_for_us(int fd, const struct header *header)
{
	union address own;
	socklen_t size = sizeof(own);
	uint8_t mapped[16];

	if (getsockname(fd, &own.sa, &size) < 0)
		return false;
	map_address(&own, mapped);
	return memcmp(mapped, header->address, 16) == 0 && header->port == ntohs(own.in.sin_port);
}

static void serve(int fd)
{
	uint8_t got[STREAM_MAX + 1], expected[STREAM_MAX];
	struct header header;
	size_t n;
	int error;

	set_limit(fd, PATIENCE_US);
	n = read_some(fd, &header, sizeof(header), &error);
	if (n == 0) {
		if (error && error != ECONNRESET)
			wrong("server: a silent connection ends with %s", strerror(error));
		return; /* the client gave up when it had been reached */
	}
	if (n < sizeof(header) || header.magic != MAGIC || header.up > STREAM_MAX ||
	    header.down > STREAM_MAX) {
		if (n == sizeof(header) || !error)
			wrong("server: no header, %zu bytes", n);
		return;
	}
	if (!is_for_us(fd, &header))
		wrong("server: connection %lx is for another server", header.id);
	fill_stream(expected, header.up, header.id, false);
	n = read_some(fd, got, header.up, &error);
	if (memcmp(got, expected, n) != 0)
		wrong("server: connection %lx: wrong bytes", header.id);
	if (n < header.up) {
		if (!header.cut)
			wrong("server: connection %lx: %zu of %u bytes, %s", header.id, n,
			      header.up, strerror(error));
		return;
	}
	fill_stream(expected, header.down, header.id, true);
	if (write_all(fd, expected, header.down))
		count(SERVED);
	else if (!header.cut)
		wrong("server: connection %lx: %s", header.id, strerror(errno));
	shutdown(fd, SHUT_WR);
	n = read_some(fd, got, 1, &error);
	if (n || (error && !header.cut))
		wrong("server: connection %lx ends with %zu bytes, %s", header.id, n,
		      strerror(error));
}

static void *accept_all(void *data)
{
	const int listener = *(int *)data;
	int fd;

	for (;;) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0) {
			wrong("accept: %s", strerror(errno));
			return NULL;
		}
		serve(fd);
		close(fd);
	}
}

static int listen_at(int port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), off = 0;

	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, 4096) < 0)
		return -1;
	return fd;
}

int run_server(char **ports, int n)
{
	static int listeners[TARGETS_MAX];
	pthread_t thread;
	sigset_t set;
	int i, j, number;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (i = 0; i < n && i < TARGETS_MAX; i++) {
		listeners[i] = listen_at(atoi(ports[i]));
		for (j = 0; j < ACCEPTORS; j++) {
			if (listeners[i] < 0 ||
			    pthread_create(&thread, NULL, accept_all, &listeners[i])) {
				perror("chaos");
				return 1;
			}
		}
	}
	fprintf(stderr, "ready\n");
	sigwait(&set, &number);
	print_counts();
	return 0;
}
