// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See events.h. libbpf maps the ring. Its data pages are read-only, but the relay's group can write
 * the page with the consumer position. So an event may hold anything if another member of the group
 * has moved that position. Events of another size are skipped here, and the log checks every byte
 * of an event that it shows.
 *
 * A pinned map with BTF can be opened as a file that shows it as text. flock(2) works on that
 * descriptor, so no other file is needed.
 */
#include "events.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpffs.h"
#include "util.h"

struct events {
	int lock_fd;
	int texts_fd; /* map_rule_texts */
	int stats_fd; /* map_stats */
	struct ring_buffer *ring;
	uint64_t lost; /* as last returned by events_take_lost() */
	/* set while events_read() runs */
	bool (*fn)(const struct tproxy_event *event, void *data);
	void *data;
	unsigned int n, most;
	bool has_text; /* text is that of counter */
	uint32_t counter;
	struct tproxy_rule_text text;
};

/* A negative value makes libbpf stop. It consumes this event too. */
static int on_sample(void *ctx, void *data, size_t size)
{
	struct events *events = ctx;
	bool more = true;

	if (size == sizeof(struct tproxy_event))
		more = events->fn(data, events->data);
	return ++events->n < events->most && more ? 0 : -ECANCELED;
}

static int take_lock(const char *pin_dir, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int n;

	n = snprintf(path, sizeof(path), "%s/%s", pin_dir, pinned_maps[PINNED_OBSERVED].name);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Adds the counts of all CPUs of a counter of map_stats. */
static int add_counter(const struct events *events, __u32 key, uint64_t *sum)
{
	int n_cpus = libbpf_num_possible_cpus(), r, i;
	_cleanup_free_ __u64 *values = NULL;

	if (n_cpus < 0)
		return n_cpus;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	r = bpf_map_lookup_elem(events->stats_fd, &key, values);
	for (i = 0; r == 0 && i < n_cpus; i++)
		*sum += values[i];
	return r;
}

/* Reads the number of lost connections since the load. */
static int read_lost(const struct events *events, uint64_t *ret_lost)
{
	uint64_t sum = 0;
	int r;

	r = add_counter(events, TPROXY_STAT_OBSERVE_FULL, &sum);
	if (r == 0)
		r = add_counter(events, TPROXY_STAT_EVENTS_LOST, &sum);
	if (r == 0)
		*ret_lost = sum;
	return r;
}

/* Returns true if the ring has no room for one more event. */
static bool is_full(int ring_fd)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const unsigned long *consumer, *producer;
	unsigned long used;
	void *pages;

	/* The first page has the consumer position, the second one the producer position. */
	pages = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, ring_fd, 0);
	if (pages == MAP_FAILED)
		return false;
	consumer = pages;
	producer = consumer + page / sizeof(*consumer);
	used = *producer - *consumer;
	munmap(pages, 2 * page);
	return used + BPF_RINGBUF_HDR_SZ + sizeof(struct tproxy_event) > TPROXY_EVENTS_SIZE;
}

/*
 * A ring that is full has lost events that no reader has reported. Otherwise previous readers have
 * reported the losses so far.
 */
static void begin_lost(struct events *events, int ring_fd)
{
	if (!is_full(ring_fd))
		read_lost(events, &events->lost);
}

static int open_all(const char *pin_dir, struct events *events)
{
	_cleanup_close_ int ring_fd = -1;
	int r;

	r = take_lock(pin_dir, &events->lock_fd);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_RULE_TEXTS, /* writable= */ false,
				   &events->texts_fd);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_STATS, /* writable= */ false, &events->stats_fd);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_EVENTS, /* writable= */ true, &ring_fd);
	if (r < 0)
		return r;
	libbpf_set_print(NULL); /* the caller logs, in one line */
	begin_lost(events, ring_fd);
	/* The mappings hold a reference to the map, so its descriptor can be closed. */
	events->ring = ring_buffer__new(ring_fd, on_sample, events, NULL);
	return events->ring ? 0 : -errno;
}

int events_open(const char *pin_dir, struct events **ret_events)
{
	struct events *events = calloc(1, sizeof(*events));
	int r;

	if (!events)
		return -ENOMEM;
	events->lock_fd = events->texts_fd = events->stats_fd = -1;
	r = open_all(pin_dir, events);
	if (r < 0) {
		events_close(events);
		return r;
	}
	*ret_events = events;
	return 0;
}

void events_close(struct events *events)
{
	if (!events)
		return;
	ring_buffer__free(events->ring);
	util_closep(&events->texts_fd);
	util_closep(&events->stats_fd);
	util_closep(&events->lock_fd);
	free(events);
}

int events_fd(const struct events *events)
{
	return ring_buffer__epoll_fd(events->ring);
}

int events_read(struct events *events, unsigned int most,
		bool (*fn)(const struct tproxy_event *event, void *data), void *data)
{
	int r;

	events->fn = fn;
	events->data = data;
	events->most = most;
	events->n = 0;
	events->has_text = false;
	r = ring_buffer__consume(events->ring);
	return r < 0 && r != -ECANCELED ? r : (int)events->n;
}

const struct tproxy_rule_text *events_rule(struct events *events,
					   const struct tproxy_observed *conn)
{
	const struct tproxy_rule_text *text = &events->text;

	if (!events->has_text || events->counter != conn->rule_counter) {
		events->counter = conn->rule_counter;
		events->has_text = bpf_map_lookup_elem(events->texts_fd, &conn->rule_counter,
						       &events->text) == 0;
	}
	if (!events->has_text || text->generation == 0 || text->since_ns > conn->started_ns)
		return NULL;
	return text;
}

uint64_t events_take_lost(struct events *events)
{
	uint64_t now = 0, lost;

	if (read_lost(events, &now) < 0)
		return 0;
	lost = now - events->lost;
	events->lost = now;
	return lost;
}
