/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many connections the processes of each cgroup have, so that those of one service cannot take
 * all that a relay can serve. For all workers together: there is a lock, which is taken only if
 * there is a limit.
 */
#ifndef TPROXY_QUOTA_H
#define TPROXY_QUOTA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define QUOTA_BUCKETS 256

struct quota_entry;

struct quota {
	_Atomic uint32_t max; /* connections of one cgroup; 0: as many as they like */
	pthread_mutex_t lock;
	LIST_HEAD(, quota_entry) buckets[QUOTA_BUCKETS]; /* cgroups that have connections now */
};

void quota_init(struct quota *quota);
void quota_finish(struct quota *quota);

/* Is there a limit? */
bool quota_wanted(const struct quota *quota);

enum quota_result {
	QUOTA_TAKEN,   /* to be given back */
	QUOTA_REACHED, /* one log line in ten seconds for each cgroup says so */
	QUOTA_NO_MEMORY,
};

/* One more connection of that cgroup. */
enum quota_result quota_take(struct quota *quota, uint64_t cgroup_id);
void quota_give(struct quota *quota, uint64_t cgroup_id);

#endif
