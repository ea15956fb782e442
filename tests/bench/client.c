/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The clients: one thread each, with blocking sockets, so that the numbers are what a plain program
 * sees.
 *
 * The threads write latencies, in nanoseconds, into slices of one array, and count their work in
 * `progress`. The main thread checks the counters once a second and ends the run if nothing has
 * moved for STALL_SECONDS. So no socket needs a timeout of its own, which would cost a system call
 * for each connection measured.
 *
 * A run with a single failure, a wrong byte or a stall prints a reason and no number.
 */
#include "client.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"
#include "shape.h"

#define STALL_SECONDS	10
#define RUN_SECONDS_MAX 600 /* limit of a run that makes progress */
#define FAILURES_MAX	100 /* a client gives up after this many */
#define NS_PER_SECOND	1000000000ULL

const char *const workload_names[_WORKLOAD_MAX] = {
	[WORKLOAD_RR] = "rr",		[WORKLOAD_CRR] = "crr",
	[WORKLOAD_CONNECT] = "connect", [WORKLOAD_HOLD] = "hold",
	[WORKLOAD_BULK_UP] = "bulk-up", [WORKLOAD_BULK_DOWN] = "bulk-down",
	[WORKLOAD_SHAPE] = "shape",
};

struct client {
	pthread_t thread;
	struct run *run;
	unsigned int quota;
	unsigned int done;   /* below quota only if the time was up first */
	uint64_t *latencies; /* quota entries, a slice of run->latencies */
	int *held;	     /* workload hold: quota descriptors */
	atomic_ullong progress;
	uint64_t bytes; /* bytes of the pattern sent or received */
	unsigned int failures;
	char reason[128]; /* reason of the first failure */
	unsigned char buffer[PATTERN_CHUNK];
};

struct run {
	enum workload workload;
	const struct client_options *options;
	uint64_t *latencies;
	struct client *clients;
	pthread_barrier_t start;
	pthread_mutex_t lock; /* protects the two members below */
	pthread_cond_t changed;
	unsigned int running;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

/* The reason goes into JSON unescaped: it must have no quotes or backslashes. */
__attribute__((format(printf, 2, 3))) static int client_fail(struct client *c, const char *format,
							     ...)
{
	va_list args;

	if (c->failures++ == 0) {
		va_start(args, format);
		vsnprintf(c->reason, sizeof(c->reason), format, args);
		va_end(args);
	}
	return -1;
}

static int client_fail_errno(struct client *c, const char *what)
{
	return client_fail(c, "%s: %s", what, strerror(errno));
}

static void client_progress(struct client *c, uint64_t amount)
{
	atomic_fetch_add_explicit(&c->progress, amount, memory_order_relaxed);
}

static int client_connect(struct client *c)
{
	const struct sockaddr_in *address = &c->run->options->address;
	const struct shape *shape = c->run->options->shape;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return client_fail_errno(c, "socket");
	if (shape)
		shape_prepare(fd, shape, &shape->client, false);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
		client_fail_errno(c, "connect");
		close(fd);
		return -1;
	}
	if (shape)
		shape_prepare(fd, shape, &shape->client, true);
	else
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	return fd;
}

static int client_listen(struct client *c)
{
	const struct sockaddr_in *address = &c->run->options->address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return client_fail_errno(c, "socket");
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 || listen(fd, 1) < 0)
		client_fail_errno(c, "listen");
	return fd;
}

/* Receives exactly @size bytes. */
static int client_receive(struct client *c, int fd, void *ret_bytes, size_t size)
{
	ssize_t n = recv(fd, ret_bytes, size, MSG_WAITALL);

	if (n < 0)
		return client_fail_errno(c, "recv");
	if ((size_t)n != size)
		return client_fail(c, "end of file after %zd of %zu bytes", n, size);
	return 0;
}

/* One request, one response. The number detects a response to an earlier request. */
static int client_exchange(struct client *c, int fd, uint64_t number)
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

/*
 * True if a client that began at @begin has used up its time. It completes one exchange at least.
 */
static bool client_late(const struct client *c, uint64_t begin, uint64_t now)
{
	unsigned int seconds = c->run->options->seconds;

	return c->done > 0 && seconds > 0 && now - begin >= seconds * NS_PER_SECOND;
}

static void client_rr(struct client *c)
{
	const struct timespec pause = { .tv_nsec = (long)c->run->options->pause_us * 1000 };
	int fd = client_connect(c);
	uint64_t first = now_ns(), begin = first;

	if (fd < 0)
		return;
	for (c->done = 0; c->done < c->quota && !client_late(c, first, begin); c->done++) {
		begin = now_ns();
		if (client_exchange(c, fd, c->done) < 0)
			break;
		c->latencies[c->done] = now_ns() - begin;
		if (pause.tv_nsec > 0)
			nanosleep(&pause, NULL);
	}
	close(fd);
}

/* Connects and resets @end to the state before the first exchange. */
static int client_open_shape(struct client *c, struct shape_end *end)
{
	end->fd = client_connect(c);
	end->shape = c->run->options->shape;
	end->introduced = false;
	end->sent = end->received = end->held = 0;
	return end->fd < 0 ? -1 : 0;
}

static int client_shape_exchange(struct client *c, struct shape_end *end)
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

static void client_shape(struct client *c)
{
	static struct shape_end end; /* this workload has one client only */
	uint64_t first = now_ns(), begin = first;

	end.fd = -1;
	for (c->done = 0; c->done < c->quota && !client_late(c, first, begin); c->done++) {
		begin = now_ns();
		if (end.fd < 0 && client_open_shape(c, &end) < 0)
			return;
		if (c->done == 0 && !end.shape->fresh)
			begin = now_ns();
		if (client_shape_exchange(c, &end) < 0)
			break;
		c->latencies[c->done] = now_ns() - begin;
		if (end.shape->fresh) {
			close(end.fd);
			end.fd = -1;
		}
	}
	if (end.fd >= 0)
		close(end.fd);
}

static void client_crr(struct client *c)
{
	for (unsigned int i = 0; i < c->quota && c->failures < FAILURES_MAX; i++) {
		uint64_t begin = now_ns();
		int fd = client_connect(c);

		if (fd < 0)
			continue;
		client_exchange(c, fd, i);
		close(fd);
		c->latencies[i] = now_ns() - begin;
	}
}

/*
 * Connects to a listener in the same thread, so that there are no wakeups and little noise. Closes
 * by reset: at tens of thousands of connections a second, the TIME_WAIT entries of an orderly close
 * make each further connect() slower.
 */
static void client_connect_only(struct client *c)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	int listen_fd = client_listen(c);

	for (unsigned int i = 0; i < c->quota && c->failures == 0; i++) {
		uint64_t begin = now_ns();
		int fd = client_connect(c);

		if (fd < 0)
			break;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		c->latencies[i] = now_ns() - begin;
		close(accept(listen_fd, NULL, NULL));
		client_progress(c, 1);
	}
	close(listen_fd);
}

/* Opens quota connections, with one exchange on each, so that they are established end to end. */
static void client_hold(struct client *c)
{
	c->held = calloc(c->quota, sizeof(*c->held));
	if (!c->held) {
		client_fail_errno(c, "calloc");
		return;
	}
	for (unsigned int i = 0; i < c->quota && c->failures == 0; i++) {
		uint64_t begin = now_ns();
		int fd = client_connect(c); /* open until the process ends, see hold_until_told() */

		if (fd < 0)
			return;
		c->held[i] = fd;
		client_exchange(c, fd, i);
		c->latencies[i] = now_ns() - begin;
	}
}

/* Both ends must have counted the same number of bytes, and every byte must have been correct. */
static void client_check_end(struct client *c, const struct bulk_end *end)
{
	if (end->bytes != c->bytes)
		client_fail(c, "the client has counted %llu bytes, the server %llu",
			    (unsigned long long)c->bytes, (unsigned long long)end->bytes);
	else if (!end->intact)
		client_fail(c, "the server has received wrong bytes");
}

static void client_send_pattern(struct client *c, int fd)
{
	uint64_t until = now_ns() + c->run->options->seconds * NS_PER_SECOND;
	struct bulk_end end;

	while (now_ns() < until) {
		ssize_t n = send(fd, pattern_at(c->bytes), PATTERN_CHUNK, MSG_NOSIGNAL);

		if (n < 0) {
			client_fail_errno(c, "send");
			return;
		}
		c->bytes += (uint64_t)n;
		client_progress(c, (uint64_t)n);
	}
	shutdown(fd, SHUT_WR);
	if (client_receive(c, fd, &end, sizeof(end)) == 0)
		client_check_end(c, &end);
}

/*
 * Sends FIN when the time is up, then reads to EOF. The last bytes are a bulk_end and not a part of
 * the pattern, so the last sizeof(struct bulk_end) bytes are always kept at the start of the
 * buffer.
 */
static void client_receive_pattern(struct client *c, int fd)
{
	uint64_t until = now_ns() + c->run->options->seconds * NS_PER_SECOND;
	bool told = false;
	size_t kept = 0;

	for (;;) {
		ssize_t n = recv(fd, c->buffer + kept, sizeof(c->buffer) - kept, 0);
		size_t ready;

		if (n < 0) {
			client_fail_errno(c, "recv");
			return;
		}
		if (n == 0)
			break;
		client_progress(c, (uint64_t)n);

		kept += (size_t)n;
		ready = kept > sizeof(struct bulk_end) ? kept - sizeof(struct bulk_end) : 0;
		if (!pattern_matches(c->buffer, ready, c->bytes)) {
			client_fail(c, "a wrong byte after %llu right ones",
				    (unsigned long long)c->bytes);
			return;
		}
		c->bytes += ready;
		kept -= ready;
		memmove(c->buffer, c->buffer + ready, kept);

		if (!told && now_ns() >= until) {
			shutdown(fd, SHUT_WR);
			told = true;
		}
	}
	if (!told || kept != sizeof(struct bulk_end)) {
		client_fail(c, "end of file too early");
		return;
	}
	client_check_end(c, (const struct bulk_end *)c->buffer);
}

static void client_bulk(struct client *c)
{
	bool up = c->run->workload == WORKLOAD_BULK_UP;
	unsigned char op = up ? OP_UP : OP_DOWN;
	int fd = client_connect(c);

	if (fd < 0)
		return;
	if (send(fd, &op, sizeof(op), MSG_NOSIGNAL) != sizeof(op))
		client_fail_errno(c, "send");
	else if (up)
		client_send_pattern(c, fd);
	else
		client_receive_pattern(c, fd);
	close(fd);
}

static void *client_main(void *arg)
{
	static void (*const bodies[_WORKLOAD_MAX])(struct client *) = {
		[WORKLOAD_RR] = client_rr,
		[WORKLOAD_CRR] = client_crr,
		[WORKLOAD_CONNECT] = client_connect_only,
		[WORKLOAD_HOLD] = client_hold,
		[WORKLOAD_BULK_UP] = client_bulk,
		[WORKLOAD_BULK_DOWN] = client_bulk,
		[WORKLOAD_SHAPE] = client_shape,
	};
	struct client *c = arg;
	struct run *run = c->run;

	pthread_barrier_wait(&run->start);
	bodies[run->workload](c);

	pthread_mutex_lock(&run->lock);
	run->running--;
	pthread_cond_signal(&run->changed);
	pthread_mutex_unlock(&run->lock);
	return NULL;
}

static uint64_t run_progress(const struct run *run)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < run->options->clients; i++)
		sum += atomic_load_explicit(&run->clients[i].progress, memory_order_relaxed);
	return sum;
}

/* Waits for the clients to end. Returns NULL, or the reason for not waiting any longer. */
static const char *run_wait(struct run *run)
{
	const char *reason = NULL;
	uint64_t last = 0;
	int idle_seconds = 0;

	pthread_mutex_lock(&run->lock);
	for (int seconds = 0; run->running > 0 && !reason;) {
		struct timespec tick;
		uint64_t progress;

		clock_gettime(CLOCK_REALTIME, &tick);
		tick.tv_sec++;
		if (pthread_cond_timedwait(&run->changed, &run->lock, &tick) != ETIMEDOUT)
			continue;

		progress = run_progress(run);
		idle_seconds = progress == last ? idle_seconds + 1 : 0;
		last = progress;
		if (idle_seconds == STALL_SECONDS)
			reason = "stalled: nothing moves";
		else if (++seconds == RUN_SECONDS_MAX)
			reason = "too slow: the time is up";
	}
	pthread_mutex_unlock(&run->lock);
	return reason;
}

static int compare_latencies(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void print_percentiles(uint64_t *latencies, size_t count)
{
	static const struct {
		const char *name;
		double share;
	} percentiles[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99_9", 0.999 } };

	qsort(latencies, count, sizeof(*latencies), compare_latencies);
	for (size_t i = 0; i < sizeof(percentiles) / sizeof(percentiles[0]); i++) {
		size_t rank = (size_t)(percentiles[i].share * (double)(count - 1));

		printf(", \"%s_us\": %.3f", percentiles[i].name, (double)latencies[rank] / 1e3);
	}
}

/* @why is NULL if all clients have ended. Returns the exit status: 0, or 1 if there is a reason. */
static int run_report(struct run *run, const char *why, double seconds)
{
	const struct client_options *options = run->options;
	uint64_t bytes = 0;
	unsigned int failures = 0, done = 0;

	for (unsigned int i = 0; i < options->clients; i++) {
		const struct client *c = &run->clients[i];

		bytes += c->bytes;
		failures += c->failures;
		/* A client whose time was up has left a gap behind its latencies. */
		if (!why)
			memmove(run->latencies + done, c->latencies,
				c->done * sizeof(*c->latencies));
		done += c->done;
		if (!why && c->failures)
			why = c->reason;
	}

	printf("{\"workload\": \"%s\", \"clients\": %u, \"seconds\": %.6f, \"failures\": %u",
	       workload_names[run->workload], options->clients, seconds, failures);
	if (why)
		printf(", \"progress\": %llu, \"reason\": \"%s\"",
		       (unsigned long long)run_progress(run), why);
	else if (bytes)
		printf(", \"bytes\": %llu, \"intact\": true, \"gbit_s\": %.4f",
		       (unsigned long long)bytes, (double)bytes * 8 / 1e9 / seconds);
	else {
		printf(", \"count\": %u, \"rate\": %.2f", done, done / seconds);
		print_percentiles(run->latencies, done);
	}
	puts("}");
	fflush(stdout);
	return why ? 1 : 0;
}

static void run_start(struct run *run)
{
	const struct client_options *options = run->options;
	unsigned int given = 0;

	for (unsigned int i = 0; i < options->clients; i++) {
		struct client *c = &run->clients[i];
		unsigned int end =
			(unsigned int)((uint64_t)options->count * (i + 1) / options->clients);

		c->run = run;
		c->latencies = run->latencies + given;
		c->quota = end - given;
		c->done = c->quota;
		given = end;
		errno = pthread_create(&c->thread, NULL, client_main, c);
		if (errno) {
			perror("pthread_create");
			exit(1);
		}
	}
}

/*
 * The connections stay open until the parent process writes to stdin or closes it, or the time is
 * up.
 */
static void hold_until_told(unsigned int seconds)
{
	struct pollfd told = { .fd = STDIN_FILENO, .events = POLLIN };

	poll(&told, 1, (int)seconds * 1000);
}

/* Checks that each connection still works: otherwise the measurement in between is not valid. */
static int check_held(struct run *run)
{
	const struct timeval patience = { .tv_sec = 5 };

	for (unsigned int i = 0; i < run->options->clients; i++) {
		struct client *c = &run->clients[i];

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

_Noreturn void client_run(enum workload workload, const struct client_options *options)
{
	struct run run = {
		.workload = workload,
		.options = options,
		.latencies = calloc(options->count, sizeof(*run.latencies)),
		.clients = calloc(options->clients, sizeof(*run.clients)),
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
		.running = options->clients,
	};
	const char *why;
	uint64_t begin;
	int r;

	if (!run.latencies || !run.clients) {
		perror("calloc");
		exit(1);
	}
	pthread_barrier_init(&run.start, NULL, options->clients + 1);
	run_start(&run);
	begin = now_ns();
	pthread_barrier_wait(&run.start);
	why = run_wait(&run);
	r = run_report(&run, why, (double)(now_ns() - begin) / 1e9);
	if (workload == WORKLOAD_HOLD && r == 0) {
		hold_until_told(options->seconds);
		r = check_held(&run);
	}

	/* After a stall the threads still use the memory that run points to; exit() frees it. */
	exit(r);
}
