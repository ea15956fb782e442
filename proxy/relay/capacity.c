// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See capacity.h. */
#include "capacity.h"

#include <errno.h>
#include <sys/resource.h>

#include "log.h"
#include "options.h"

/* Descriptors that are not for connections: libraries, maps, epoll. An idle relay has some 32. */
#define FDS_RESERVED 48
/* Descriptors of a worker and its bulk worker: epoll, eventfd, maps, ring, spare sockets. */
#define FDS_WORKER 19
/* Descriptors for connections, without which the relay does not start. */
#define FDS_LEAST 16
/* Limit of pipes for all workers, see pipes.h. */
#define PIPES_MAX 128

uint32_t capacity_raise_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur > 1 << 24 ? 1 << 24 : (uint32_t)limit.rlim_cur;
}

uint32_t capacity_pipes(uint32_t nofile, uint32_t workers)
{
	return (nofile / 32 < PIPES_MAX ? nofile / 32 : PIPES_MAX) / workers;
}

/* Returns the number of descriptors that are not for connections. */
static uint32_t reserved_fds(uint32_t nofile, const struct options *options)
{
	const uint32_t each = FDS_WORKER + 2 * capacity_pipes(nofile, options->workers) +
			      /* each may have a sink */
			      2 * options_listeners(options, TPROXY_INET) +
			      2 * options_listeners(options, TPROXY_INET6);

	return FDS_RESERVED + options->workers * each;
}

/* Returns the least number of descriptors for a relay with so many workers. */
static uint32_t least_fds(const struct options *options)
{
	uint32_t least = 0;

	/* More descriptors are more pipes, which are reserved too. */
	while (least < reserved_fds(least, options) + FDS_LEAST)
		least = reserved_fds(least, options) + FDS_LEAST;
	return least;
}

int capacity_fit(uint32_t nofile, struct options *options)
{
	const uint32_t asked = options->workers;

	/* As many workers as leave half of the descriptors to connections. */
	while (!options->workers_given && options->workers > 1 &&
	       nofile / 2 < reserved_fds(nofile, options))
		options->workers--;
	if (nofile < least_fds(options)) {
		log_err("%u descriptors are not enough for --workers %u, which needs %u; raise RLIMIT_NOFILE (LimitNOFILE= in the unit)%s",
			nofile, options->workers, least_fds(options),
			options->workers > 1 ? " or have fewer workers" : "");
		return -EMFILE;
	}
	if (options->workers < asked)
		log_warning(
			"going on with %u of %u workers, because there are only %u descriptors; raise RLIMIT_NOFILE (LimitNOFILE= in the unit)",
			options->workers, asked, nofile);
	return 0;
}

uint32_t capacity_sessions(uint32_t nofile, bool tls, const struct options *options)
{
	uint32_t reserved = reserved_fds(nofile, options);
	/* Each session has two descriptors, and a bridge has two more. */
	uint32_t fds = tls ? 4 : 2;
	uint32_t sessions = nofile > reserved + fds ? (nofile - reserved) / fds : 1;

	if (options->max_connections > sessions)
		log_warning(
			"--max-connections %u: %u descriptors allow %u, ignoring; raise RLIMIT_NOFILE",
			options->max_connections, nofile, sessions);
	else if (options->max_connections)
		return options->max_connections;
	return sessions;
}
