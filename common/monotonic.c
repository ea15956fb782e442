// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See monotonic.h. The offsets of a time namespace are fixed once the first process has entered it,
 * so they are read once. /proc/self/timens_offsets exists since 5.6; without it there is no offset.
 */
#include "monotonic.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "util.h"

#define NS_PER_S 1000000000

static int64_t offset_ns;

/* Each line is: clock, seconds (may be negative), nanoseconds. */
static void read_offset(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/timens_offsets", "re");
	int64_t s, ns;
	char line[80];

	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "monotonic %" SCNd64 " %" SCNd64, &s, &ns) == 2)
			offset_ns = s * NS_PER_S + ns;
	}
}

uint64_t monotonic_kernel_ns(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct timespec ts;

	pthread_once(&once, read_offset);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)((int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec - offset_ns);
}

uint64_t monotonic_coarse_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}
