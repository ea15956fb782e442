/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See hold.h. Two phases: the clients open their connections at the same time and end, then the
 * main thread alone has the descriptors. The result of the first phase is printed in between, which
 * tells the parent process that all connections are open.
 */
#include "hold.h"

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "client.h"

void hold_open(struct client *c)
{
	c->held = calloc(c->quota, sizeof(*c->held));
	if (!c->held) {
		client_fail_errno(c, "calloc");
		return;
	}
	for (unsigned int i = 0; i < c->quota && c->failures == 0; i++) {
		uint64_t begin = client_now_ns();
		int fd = client_connect(c);

		if (fd < 0)
			return;
		c->held[i] = fd;
		client_exchange(c, fd, i);
		c->latencies[i] = client_now_ns() - begin;
	}
}

static void hold_until_told(unsigned int seconds)
{
	struct pollfd told = { .fd = STDIN_FILENO, .events = POLLIN };

	poll(&told, 1, (int)seconds * 1000);
}

/* Checks that each connection still works: otherwise the measurement in between is not valid. */
static int check_held(struct client *clients, unsigned int count)
{
	const struct timeval patience = { .tv_sec = 5 };

	for (unsigned int i = 0; i < count; i++) {
		struct client *c = &clients[i];

		for (unsigned int j = 0; j < c->quota; j++) {
			setsockopt(c->held[j], SOL_SOCKET, SO_RCVTIMEO, &patience,
				   sizeof(patience));
			if (client_exchange(c, c->held[j], j) == 0)
				continue;
			fprintf(stderr, "a connection that was held: %s\n", c->reason);
			return 1;
		}
	}
	return 0;
}

int hold_keep(struct client *clients, const struct client_options *options)
{
	hold_until_told(options->seconds);
	return check_held(clients, options->clients);
}
