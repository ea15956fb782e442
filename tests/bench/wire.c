/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tproxy-wire: a network link that delays packets, between two network namespaces.
 *
 * Each end is a TUN device in one of the namespaces. One thread for each direction reads packets,
 * keeps each for half the round trip time, and writes it to the other device. It is for latencies
 * of tens of milliseconds, not for throughput. sch_netem does the same in the kernel, which does
 * not need to have it.
 *
 * Usage: tproxy-wire NETNS1 NETNS2 DEVICE RTT_US. Both devices have the same name. It prints
 * "ready" when they exist, and runs until it is killed, or for two hours.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LIFETIME_SECONDS 7200
#define NS_PER_SECOND	 1000000000ULL
#define PACKET_MAX	 2048
#define PACKETS_MAX	 4096 /* in flight in one direction; more wait in the device's queue */

struct packet {
	uint64_t due_ns;
	size_t size;
	char bytes[PACKET_MAX];
};

struct direction {
	int from, to;
	uint64_t delay_ns;
	struct packet *packets; /* a ring */
	size_t first, count;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

/* Returns a TUN device in this namespace. The process stays there. */
static int tun_open(const char *netns, const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = open(netns, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die(netns);
	close(fd);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
		die("/dev/net/tun");
	return fd;
}

static void read_packets(struct direction *d)
{
	while (d->count < PACKETS_MAX) {
		struct packet *p = &d->packets[(d->first + d->count) % PACKETS_MAX];
		ssize_t n = read(d->from, p->bytes, sizeof(p->bytes));

		if (n < 0 && errno != EAGAIN && errno != EIO)
			die("read");
		if (n <= 0)
			return;
		p->size = (size_t)n;
		p->due_ns = now_ns() + d->delay_ns;
		d->count++;
	}
}

/* A device that is down does not take packets: they are lost, as on a cable. */
static void write_packets(struct direction *d)
{
	for (; d->count > 0 && d->packets[d->first].due_ns <= now_ns(); d->count--) {
		const struct packet *p = &d->packets[d->first];

		if (write(d->to, p->bytes, p->size) < 0 && errno != EIO && errno != EAGAIN &&
		    errno != EINVAL)
			die("write");
		d->first = (d->first + 1) % PACKETS_MAX;
	}
}

static void *direction_main(void *arg)
{
	struct direction *d = arg;

	prctl(PR_SET_TIMERSLACK, 1UL);
	for (;;) {
		struct pollfd pollfd = { .fd = d->from, .events = POLLIN };
		struct timespec timeout = { 0 };

		if (d->count > 0) {
			uint64_t now = now_ns(), due = d->packets[d->first].due_ns;
			uint64_t wait = due > now ? due - now : 0;

			timeout.tv_sec = (time_t)(wait / NS_PER_SECOND);
			timeout.tv_nsec = (long)(wait % NS_PER_SECOND);
		}
		if (d->count == PACKETS_MAX)
			pollfd.fd = -1;
		if (ppoll(&pollfd, 1, d->count > 0 ? &timeout : NULL, NULL) < 0 && errno != EINTR)
			die("ppoll");
		read_packets(d);
		write_packets(d);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct direction directions[2] = { { 0 } };
	long rtt_us = argc == 5 ? atol(argv[4]) : -1;
	pthread_t thread;
	int fds[2];

	if (rtt_us < 0) {
		fputs("Usage: tproxy-wire NETNS1 NETNS2 DEVICE RTT_US\n", stderr);
		return 2;
	}
	for (int i = 0; i < 2; i++)
		fds[i] = tun_open(argv[1 + i], argv[3]);
	for (int i = 0; i < 2; i++) {
		struct direction *d = &directions[i];

		d->from = fds[i];
		d->to = fds[1 - i];
		d->delay_ns = (uint64_t)rtt_us * 1000 / 2;
		d->packets = calloc(PACKETS_MAX, sizeof(*d->packets));
		if (!d->packets)
			die("calloc");
		errno = pthread_create(&thread, NULL, direction_main, d);
		if (errno)
			die("pthread_create");
	}
	puts("ready");
	fflush(stdout);

	/* The threads never end. */
	sleep(LIFETIME_SECONDS);
	fprintf(stderr, "tproxy-wire: ended after %d s\n", LIFETIME_SECONDS);
	return 1;
}
