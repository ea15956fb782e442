// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See quota.h. An entry lives as long as its cgroup has connections. */
#include "quota.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "log.h"

struct quota_entry {
	LIST_ENTRY(quota_entry) entry;
	uint64_t cgroup_id;
	uint32_t count;
	struct log_episode reached;
};

void quota_init(struct quota *quota)
{
	int i;

	*quota = (struct quota){};
	pthread_mutex_init(&quota->lock, NULL);
	for (i = 0; i < QUOTA_BUCKETS; i++)
		LIST_INIT(&quota->buckets[i]);
}

void quota_finish(struct quota *quota)
{
	struct quota_entry *entry;
	int i;

	/* Entries are left only if a worker failed and left its sessions behind. */
	for (i = 0; i < QUOTA_BUCKETS; i++) {
		while ((entry = LIST_FIRST(&quota->buckets[i]))) {
			LIST_REMOVE(entry, entry);
			free(entry);
		}
	}
	pthread_mutex_destroy(&quota->lock);
}

bool quota_wanted(const struct quota *quota)
{
	return atomic_load_explicit(&quota->max, memory_order_relaxed) > 0;
}

/* Returns the entry of a cgroup, or NULL. Ids are inode numbers, close together: modulo will do. */
static struct quota_entry *find(struct quota *quota, uint64_t cgroup_id)
{
	struct quota_entry *entry;

	LIST_FOREACH (entry, &quota->buckets[cgroup_id % QUOTA_BUCKETS], entry) {
		if (entry->cgroup_id == cgroup_id)
			return entry;
	}
	return NULL;
}

static struct quota_entry *add(struct quota *quota, uint64_t cgroup_id)
{
	struct quota_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->cgroup_id = cgroup_id;
	LIST_INSERT_HEAD(&quota->buckets[cgroup_id % QUOTA_BUCKETS], entry, entry);
	return entry;
}

static enum quota_result take(struct quota *quota, uint64_t cgroup_id, uint32_t max)
{
	/* When a client ends its last connection, its entry and the log episode in it are freed. So
	 * the log line has a limit of its own too. */
	static struct log_limit limit;
	struct quota_entry *entry = find(quota, cgroup_id);

	if (!entry)
		entry = add(quota, cgroup_id);
	if (!entry)
		return QUOTA_NO_MEMORY;
	if (entry->count < max || max == 0) {
		entry->count++;
		return QUOTA_TAKEN;
	}
	if (log_episode_begins(&entry->reached))
		log_limited(&limit, LOG_LEVEL_WARNING,
			    "cgroup %" PRIu64
			    " has %u connections, which is --max-per-cgroup: others are reset",
			    cgroup_id, entry->count);
	return QUOTA_REACHED;
}

enum quota_result quota_take(struct quota *quota, uint64_t cgroup_id)
{
	uint32_t max = atomic_load_explicit(&quota->max, memory_order_relaxed);
	enum quota_result result;

	pthread_mutex_lock(&quota->lock);
	result = take(quota, cgroup_id, max);
	pthread_mutex_unlock(&quota->lock);
	return result;
}

void quota_give(struct quota *quota, uint64_t cgroup_id)
{
	struct quota_entry *entry;

	pthread_mutex_lock(&quota->lock);
	entry = find(quota, cgroup_id);
	assert(entry && entry->count > 0);
	if (--entry->count == 0) {
		LIST_REMOVE(entry, entry);
		free(entry);
	}
	pthread_mutex_unlock(&quota->lock);
}
