// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See capacity.h. */
#include "capacity.h"

#include <sys/resource.h>

#include "log.h"
#include "options.h"

/* Descriptors that are not for connections: libraries, maps, epoll. */
#define FDS_RESERVED 72
/* Descriptors of a worker and its bulk worker: epoll, eventfd, maps, ring, spare sockets. */
#define FDS_WORKER 19
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

uint32_t capacity_sessions(uint32_t nofile, bool tls, const struct options *options)
{
	uint32_t each = FDS_WORKER + 2 * capacity_pipes(nofile, options->workers) +
			/* each may have a sink */
			2 * options_listeners(options, TPROXY_INET) +
			2 * options_listeners(options, TPROXY_INET6);
	uint32_t reserved = FDS_RESERVED + options->workers * each;
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
