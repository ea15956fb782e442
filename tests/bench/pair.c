/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See pair.h. A socket belongs for good to the cgroup in which its process called socket(), and the
 * kernel runs the programs of that cgroup. So one thread enters each of the two cgroups to make
 * sockets, and uses those of both. What disturbs the machine for longer than a burst disturbs both.
 *
 *   burst   some exchanges or connections, whose value is their median latency; or one piece of a
 *           transfer, whose value is its time
 *   pair    a burst of each side, one right after the other, first ours or first the base by turns.
 *           Its ratio is that of the two values
 *   round   some pairs with the same sockets: a connection of each side, or crr's pool. It begins
 *           with a burst of each side that does not count
 *   result  the median of the pairs' ratios
 *
 * While one side has its burst, the connection of the other is idle: the server sends only what it
 * is asked for.
 */
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bulk.h"
#include "client.h"
#include "percentiles.h"

#define RR_BURST    20
#define CRR_BURST   10
#define PIECE_BYTES (2U * 1024 * 1024)

/* Of the bursts that do not count. */
#define WARM_UP 10

/* Of a round. */
#define PAIRS	       8
#define CRR_PAIRS      24
#define CRR_LONG_PAIRS 4 /* if bursts are longer than usual */
#define POOL_SIZE      64
#define POOL_MAX       (WARM_UP + CRR_LONG_PAIRS * CLIENT_BURST_MAX)

#define PAIRS_MAX   1000000
#define RATIO_SCALE 1e9 /* ratios are kept as integers, for percentiles.h */

enum side_name {
	OURS,
	BASE,
	_SIDES,
};

/* What the bursts of a side that count come to. */
struct sum {
	unsigned int done; /* exchanges or connections */
	uint64_t bytes;
	uint64_t ns;
};

struct side {
	int fd; /* rr and bulk: its connection */
	int pool[POOL_MAX];
	unsigned int pooled;
	unsigned int connections;
	uint64_t *latencies; /* of rr and crr, in ns: sum.done of them */
	struct sum sum;
	struct bulk_offsets offsets;
};

struct pairs {
	enum workload workload;
	unsigned int burst;  /* exchanges or connections */
	unsigned int length; /* of a round, in pairs */
	unsigned int pool_size;
	struct side sides[_SIDES];
	uint64_t *ratios; /* ours to base, times RATIO_SCALE */
	unsigned int done;
	unsigned int rounds;
};

static void open_cgroup(const char *directory, int *ret_fd)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	*ret_fd = open(path, O_WRONLY | O_CLOEXEC);
	if (*ret_fd < 0) {
		fprintf(stderr, "tproxy-bench: %s: %s\n", path, strerror(errno));
		exit(1);
	}
}

void pair_open(char *directories, struct client_options *options)
{
	char *comma = strchr(directories, ',');

	if (!comma) {
		fputs("tproxy-bench: --cgroups takes two directories\n", stderr);
		exit(2);
	}
	*comma = '\0';
	open_cgroup(directories, &options->cgroups[OURS]);
	open_cgroup(comma + 1, &options->cgroups[BASE]);
	options->pair = true;
}

static enum side_name other(enum side_name side)
{
	return side == OURS ? BASE : OURS;
}

static bool is_crr(const struct pairs *pairs)
{
	return pairs->workload == WORKLOAD_CRR;
}

static bool is_bulk(const struct pairs *pairs)
{
	return pairs->workload == WORKLOAD_BULK_UP || pairs->workload == WORKLOAD_BULK_DOWN;
}

static int fill_pool(struct client *c, struct side *side)
{
	for (; side->pooled < c->pairs->pool_size; side->pooled++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return client_fail_errno(c, "socket");
		side->pool[side->pooled] = fd;
	}
	return 0;
}

/*
 * Fills both pools. Moves the whole process, because a thread alone cannot enter a domain cgroup.
 * That takes milliseconds.
 */
static int fill_pools(struct client *c, enum side_name first)
{
	const enum side_name order[] = { first, other(first) };

	for (int i = 0; i < _SIDES; i++) {
		if (write(c->options->cgroups[order[i]], "0", 1) != 1)
			return client_fail_errno(c, "cgroup.procs");
		if (fill_pool(c, &c->pairs->sides[order[i]]) < 0)
			return -1;
	}
	return 0;
}

static int exchange_once(struct client *c, struct side *side)
{
	return client_exchange(c, side->fd, side->sum.done);
}

static int connect_once(struct client *c, struct side *side)
{
	int fd = side->pool[--side->pooled];
	int r = client_connect_with(c, fd, &c->options->address);

	side->connections++;
	if (r == 0)
		r = client_exchange(c, fd, side->sum.done);
	close(fd);
	return r;
}

/* Gives the median latency of @count times @once(), in ns. Returns 0 or -1. */
static int burst_of(struct client *c, struct side *side, unsigned int count,
		    int (*once)(struct client *c, struct side *side), uint64_t *ret_ns)
{
	uint64_t *latencies = side->latencies + side->sum.done;

	for (unsigned int i = 0; i < count; i++, side->sum.done++) {
		uint64_t begin = client_now_ns();

		if (once(c, side) < 0)
			return -1;
		latencies[i] = client_now_ns() - begin;
		side->sum.ns += latencies[i];
	}
	percentiles_sort(latencies, count);
	*ret_ns = percentiles_at(latencies, count, 0.5);
	return 0;
}

static int burst_of_bytes(struct client *c, struct side *side, uint64_t *ret_ns)
{
	const bool up = c->pairs->workload == WORKLOAD_BULK_UP;
	uint64_t begin = client_now_ns();

	if (bulk_piece(c, side->fd, up ? PIECE_BYTES : 0, up ? 1 : PIECE_BYTES, &side->offsets) < 0)
		return -1;
	*ret_ns = client_now_ns() - begin;
	side->sum.bytes += PIECE_BYTES;
	side->sum.ns += *ret_ns;
	return 0;
}

/* @count is ignored for bulk, whose bursts are one piece. */
static int burst(struct client *c, struct side *side, unsigned int count, uint64_t *ret_ns)
{
	if (is_bulk(c->pairs))
		return burst_of_bytes(c, side, ret_ns);
	return burst_of(c, side, count, is_crr(c->pairs) ? connect_once : exchange_once, ret_ns);
}

/* A burst that does not count, on a new connection if it is not crr. */
static int begin_side(struct client *c, struct side *side)
{
	const struct sum before = side->sum;
	uint64_t ignored;

	if (!is_crr(c->pairs)) {
		if (side->fd >= 0)
			close(side->fd);
		side->fd = side->pool[--side->pooled];
		side->offsets = (struct bulk_offsets){ 0, 0 };
		side->connections++;
		if (client_connect_with(c, side->fd, &c->options->address) < 0)
			return -1;
	}
	if (burst(c, side, WARM_UP, &ignored) < 0)
		return -1;
	side->sum = before;
	return 0;
}

/*
 * Two connections are never quite equal: where their memory is makes a difference of 1 % and more
 * for as long as they live. So each round has others. The side that begins changes too.
 */
static int begin_round(struct client *c)
{
	struct pairs *pairs = c->pairs;
	const enum side_name first = pairs->rounds++ % 2 ? BASE : OURS;
	const unsigned int needed = is_crr(pairs) ? pairs->pool_size : 1;

	if (pairs->sides[OURS].pooled < needed && fill_pools(c, first) < 0)
		return -1;
	if (begin_side(c, &pairs->sides[first]) < 0)
		return -1;
	return begin_side(c, &pairs->sides[other(first)]);
}

static int run_pair(struct client *c)
{
	struct pairs *pairs = c->pairs;
	const enum side_name first = (pairs->done + pairs->rounds) % 2 ? BASE : OURS;
	const enum side_name second = other(first);
	uint64_t ns[_SIDES];

	if (burst(c, &pairs->sides[first], pairs->burst, &ns[first]) < 0 ||
	    burst(c, &pairs->sides[second], pairs->burst, &ns[second]) < 0)
		return -1;
	pairs->ratios[pairs->done++] =
		(uint64_t)((double)ns[OURS] / (double)ns[BASE] * RATIO_SCALE);
	return 0;
}

/* True if one more pair fits into the amount or the time. There is one at least. */
static bool goes_on(const struct client *c, uint64_t until)
{
	const struct pairs *pairs = c->pairs;

	if (pairs->done == 0)
		return true;
	if (pairs->done == PAIRS_MAX)
		return false;
	return is_bulk(pairs) ? client_now_ns() < until
			      : pairs->sides[OURS].sum.done + pairs->burst <= c->quota;
}

static struct pairs *pairs_new(enum workload workload, const struct client *c)
{
	const unsigned int usual = workload == WORKLOAD_RR ? RR_BURST : CRR_BURST;
	struct pairs *pairs = calloc(1, sizeof(*pairs));

	if (pairs) {
		pairs->workload = workload;
		pairs->burst = c->options->burst ? c->options->burst : usual;
		pairs->length = PAIRS;
		pairs->pool_size = POOL_SIZE;
		if (is_crr(pairs)) {
			pairs->length = pairs->burst > CRR_BURST ? CRR_LONG_PAIRS : CRR_PAIRS;
			pairs->pool_size = WARM_UP + pairs->length * pairs->burst;
		}
		pairs->ratios = calloc(PAIRS_MAX, sizeof(*pairs->ratios));
		for (struct side *side = pairs->sides; side < pairs->sides + _SIDES; side++) {
			side->fd = -1;
			side->latencies =
				calloc(c->quota + CLIENT_BURST_MAX, sizeof(*side->latencies));
		}
	}
	if (!pairs || !pairs->ratios || !pairs->sides[OURS].latencies ||
	    !pairs->sides[BASE].latencies) {
		perror("calloc");
		exit(1);
	}
	return pairs;
}

void pair_run(struct client *c, enum workload workload)
{
	uint64_t until = client_now_ns() + c->options->seconds * NS_PER_SECOND;

	c->pairs = pairs_new(workload, c);
	while (goes_on(c, until)) {
		if (c->pairs->done % c->pairs->length == 0 && begin_round(c) < 0)
			return;
		if (run_pair(c) < 0)
			return;
	}
}

static void print_side(const struct side *side)
{
	run_print(side->sum.bytes, side->latencies, side->sum.done, (double)side->sum.ns / 1e9);
}

void pair_print(const struct client *c)
{
	const struct pairs *pairs = c->pairs;
	double ratio;

	percentiles_sort(pairs->ratios, pairs->done);
	ratio = (double)percentiles_at(pairs->ratios, pairs->done, 0.5) / RATIO_SCALE;
	print_side(&pairs->sides[OURS]);
	fputs(", \"base\": {", stdout);
	print_side(&pairs->sides[BASE]);
	/* That of bulk is of rates and not of times. */
	printf("}, \"ratio\": %.5f, \"pairs\": %u, \"connections\": %u",
	       is_bulk(pairs) ? 1 / ratio : ratio, pairs->done, pairs->sides[OURS].connections);
}
