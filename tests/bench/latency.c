/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See latency.h. A latency runs from before the first system call of an exchange, or of connect(),
 * to after the last one. What prepares the next one, such as the pause of rr, is not in it.
 *
 * rr and shape stop when the time is up, if there is a limit, after one exchange at least. crr,
 * connect and refused make a connection for each latency and have no time limit.
 */
#include "latency.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "shape.h"

#define ADDRESS_STEP 16381
#define FAILURES_MAX 100 /* crr gives up after this many */

/*
 * True if a client that began at @begin has used up its time. It completes one exchange at least.
 */
static bool is_late(const struct client *c, uint64_t begin, uint64_t now)
{
	unsigned int seconds = c->options->seconds;

	return c->done > 0 && seconds > 0 && now - begin >= seconds * NS_PER_SECOND;
}

void latency_rr(struct client *c)
{
	const struct timespec pause = { .tv_nsec = (long)c->options->pause_us * 1000 };
	int fd = client_connect(c);
	uint64_t first = client_now_ns(), begin = first;

	if (fd < 0)
		return;
	for (c->done = 0; c->done < c->quota && !is_late(c, first, begin); c->done++) {
		begin = client_now_ns();
		if (client_exchange(c, fd, c->done) < 0)
			break;
		c->latencies[c->done] = client_now_ns() - begin;
		if (pause.tv_nsec > 0)
			nanosleep(&pause, NULL);
	}
	close(fd);
}

/* Connects and resets @end to the state before the first exchange. */
static int open_shape(struct client *c, struct shape_end *end)
{
	end->fd = client_connect(c);
	end->shape = c->options->shape;
	end->introduced = false;
	end->sent = end->received = end->held = 0;
	return end->fd < 0 ? -1 : 0;
}

static int exchange_shape(struct client *c, struct shape_end *end)
{
	int r = shape_exchange(end);

	if (r == -EBADMSG)
		return client_fail(c, "a wrong byte");
	if (r == -ENODATA)
		return client_fail(c, "end of file");
	if (r < 0)
		return client_fail(c, "exchange: %s", strerror(-r));
	client_progress(c, 1);
	return 0;
}

void latency_shape(struct client *c)
{
	static struct shape_end end; /* this workload has one client only */
	uint64_t first = client_now_ns(), begin = first;

	end.fd = -1;
	for (c->done = 0; c->done < c->quota && !is_late(c, first, begin); c->done++) {
		begin = client_now_ns();
		if (end.fd < 0 && open_shape(c, &end) < 0)
			return;
		if (c->done == 0 && !end.shape->fresh)
			begin = client_now_ns();
		if (exchange_shape(c, &end) < 0)
			break;
		c->latencies[c->done] = client_now_ns() - begin;
		if (end.shape->fresh) {
			close(end.fd);
			end.fd = -1;
		}
	}
	if (end.fd >= 0)
		close(end.fd);
}

void latency_crr(struct client *c)
{
	for (unsigned int i = 0; i < c->quota && c->failures < FAILURES_MAX; i++) {
		uint64_t begin = client_now_ns();
		int fd = client_connect(c);

		if (fd < 0)
			continue;
		client_exchange(c, fd, i);
		close(fd);
		c->latencies[i] = client_now_ns() - begin;
	}
}

void latency_refused(struct client *c)
{
	for (unsigned int i = 0; i < c->quota && c->failures == 0; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		const struct sockaddr_in *address = &c->options->address;
		uint64_t begin = client_now_ns();

		if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
			client_fail(c, "connect() has succeeded");
		else if (errno != ECONNREFUSED)
			client_fail_errno(c, "connect");
		c->latencies[i] = client_now_ns() - begin;
		close(fd);
		client_progress(c, 1);
	}
}

static int listen_here(struct client *c)
{
	struct sockaddr_in address = c->options->address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return client_fail_errno(c, "socket");
	if (c->options->addresses > 1)
		address.sin_addr.s_addr = htonl(INADDR_ANY);
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		client_fail_errno(c, "listen");
	return fd;
}

/*
 * The addresses are spread over 2^24, and not neighbours, because those would share the path to
 * them in a table of prefixes.
 */
static struct sockaddr_in address_of(const struct client *c, unsigned int number)
{
	struct sockaddr_in address = c->options->address;

	address.sin_addr.s_addr = htonl(ntohl(address.sin_addr.s_addr) +
					number % c->options->addresses * ADDRESS_STEP % (1U << 24));
	return address;
}

/*
 * Connects to a listener in the same thread, so that there are no wakeups and little noise. Closes
 * by reset: at tens of thousands of connections a second, the TIME_WAIT entries of an orderly close
 * make each further connect() slower.
 */
void latency_connect(struct client *c)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	int listen_fd = listen_here(c);

	for (unsigned int i = 0; i < c->quota && c->failures == 0; i++) {
		const struct sockaddr_in address = address_of(c, i);
		uint64_t begin = client_now_ns();
		int fd = client_connect_to(c, &address);

		if (fd < 0)
			break;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		c->latencies[i] = client_now_ns() - begin;
		close(accept(listen_fd, NULL, NULL));
		client_progress(c, 1);
	}
	close(listen_fd);
}
