/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Quota: limits the connections of each cgroup, so that one service cannot take all that a relay
 * can serve. All workers share one quota, under a lock. Workers take the lock only if there is a
 * limit.
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
	_Atomic uint32_t max; /* connections of one cgroup; 0: no limit */
	pthread_mutex_t lock;
	LIST_HEAD(, quota_entry) buckets[QUOTA_BUCKETS]; /* cgroups that have connections now */
};

/* Main thread, without running workers. */
void quota_init(struct quota *quota);
void quota_finish(struct quota *quota);

/* True if there is a limit. Any thread. */
bool quota_wanted(const struct quota *quota);

enum quota_result {
	QUOTA_TAKEN,   /* counted: the caller must call quota_give() */
	QUOTA_REACHED, /* the limit is reached; logged, once per cgroup and episode */
	QUOTA_NO_MEMORY,
};

/* Counts one more connection of a cgroup. Any thread. */
enum quota_result quota_take(struct quota *quota, uint64_t cgroup_id);
/* Gives back one connection that quota_take() counted. Any thread. */
void quota_give(struct quota *quota, uint64_t cgroup_id);

#endif
