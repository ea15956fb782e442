// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See flows.h.
 *
 * The capture renews ALIVE_NS in map_capture. If it is killed, the kernel half stops by itself
 * after TPROXY_STALE_NS, and the sweep deletes the entries. A shared lock on the pin of map_capture
 * tells a capture that ends whether it is the last one: only the last one gets an exclusive lock.
 *
 * Sockets do not delete their entries, because packets may follow. flows_tick() deletes them when
 * LINGER_NS have passed since the socket's end, which is as long as TIME_WAIT lasts, and earlier
 * when the map fills.
 *
 * Packets of one connection follow each other, so the last answers are cached. A SYN begins a new
 * connection, whose addresses an older one may have had: it is looked up again.
 */
#include "flows.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpffs.h"
#include "fnv.h"
#include "log.h"
#include "monotonic.h"
#include "objects.h"
#include "observed_entries.h"
#include "packet.h"
#include "state/conns.h"
#include "state/maps.h"
#include "util.h"

#define NS_PER_S  1000000000ULL
#define LINGER_NS (60 * NS_PER_S)
/* Entries above which LINGER_BUSY_NS applies, and above which none is kept. */
#define BUSY_ENTRIES   (TPROXY_FLOWS_MAX / 4)
#define LINGER_BUSY_NS (2 * NS_PER_S)
#define FULL_ENTRIES   (TPROXY_FLOWS_MAX / 4 * 3)
/* Between two passes over map_flows, if it is not busy. */
#define PASS_NS	  NS_PER_S
#define BATCH_MAX 4096

#define CACHE_SLOTS 4096 /* a power of two */

struct cached {
	bool used, found;
	struct tproxy_endpoint src, dst; /* of the packet */
	struct flow flow;
};

struct flows {
	const char *pin_dir; /* the caller's */
	int lock_fd, capture_fd, fd;
	uint64_t netns_cookie;
	uint64_t missed_before;
	bool stalled;		      /* publication has stopped meanwhile */
	uint64_t passed_ns;	      /* when the last pass began */
	size_t n_entries;	      /* as the last pass has found them */
	struct tproxy_flow_key *keys; /* of a batch */
	struct tproxy_flow *values;
	struct cached *cache;
};

static int lock_path(const char *pin_dir, char ret_path[PATH_MAX])
{
	const int n =
		snprintf(ret_path, PATH_MAX, "%s/%s", pin_dir, pinned_maps[PINNED_CAPTURE].name);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int take_lock(const char *pin_dir, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];
	int r;

	r = lock_path(pin_dir, path);
	if (r < 0)
		return r;
	/* A pinned array with BTF can be opened as a file, and so be locked. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_SH) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int read_netns_cookie(uint64_t *ret_cookie)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret_cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret_cookie, &len) < 0)
		return -errno;
	return 0;
}

static int open_all(struct flows *f)
{
	int r;

	r = maps_open(f->pin_dir, PINNED_CAPTURE, /* writable= */ true, &f->capture_fd);
	if (r == 0)
		r = maps_open(f->pin_dir, PINNED_FLOWS, /* writable= */ true, &f->fd);
	if (r < 0)
		return r;
	r = take_lock(f->pin_dir, &f->lock_fd);
	if (r < 0) {
		log_err("cannot lock '%s/%s': %s", f->pin_dir, pinned_maps[PINNED_CAPTURE].name,
			strerror(-r));
		return r;
	}
	r = read_netns_cookie(&f->netns_cookie);
	if (r < 0) {
		log_err("cannot tell the network namespace: %s", strerror(-r));
		return r;
	}
	f->keys = calloc(BATCH_MAX, sizeof(*f->keys));
	f->values = calloc(BATCH_MAX, sizeof(*f->values));
	f->cache = calloc(CACHE_SLOTS, sizeof(*f->cache));
	if (f->keys && f->values && f->cache)
		return 0;
	log_err("out of memory");
	return -ENOMEM;
}

static void finish(struct flows *f)
{
	util_closep(&f->capture_fd);
	util_closep(&f->fd);
	util_closep(&f->lock_fd);
	free(f->keys);
	free(f->values);
	free(f->cache);
	free(f);
}

int flows_open(const char *pin_dir, struct flows **ret_flows)
{
	struct flows *f = calloc(1, sizeof(*f));
	int r;

	if (!f) {
		log_err("out of memory");
		return -ENOMEM;
	}
	f->pin_dir = pin_dir;
	f->lock_fd = f->capture_fd = f->fd = -1;
	r = open_all(f);
	if (r < 0) {
		finish(f);
		return r;
	}
	*ret_flows = f;
	return 0;
}

bool flows_are_pinned(const struct flows *f)
{
	struct stat opened, pinned;
	char path[PATH_MAX];

	return lock_path(f->pin_dir, path) == 0 && fstat(f->lock_fd, &opened) == 0 &&
	       stat(path, &pinned) == 0 && opened.st_dev == pinned.st_dev &&
	       opened.st_ino == pinned.st_ino;
}

static int set_alive(const struct flows *f, uint64_t alive_ns)
{
	const __u32 key = TPROXY_CAPTURE_ALIVE_NS;

	return bpf_map_update_elem(f->capture_fd, &key, &alive_ns, BPF_ANY);
}

static void delete_all(const struct flows *f)
{
	struct tproxy_flow_key key;

	while (bpf_map_get_next_key(f->fd, NULL, &key) == 0)
		bpf_map_delete_elem(f->fd, &key);
}

void flows_close(struct flows *f)
{
	if (!f)
		return;
	/* Fails while another capture has its shared lock. One that begins now waits for this one.
	 */
	if (flock(f->lock_fd, LOCK_EX | LOCK_NB) == 0) {
		set_alive(f, 0);
		/* Waits for the programs that run, which may still insert an entry. */
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
		delete_all(f);
	}
	finish(f);
}

int flows_fd(const struct flows *f)
{
	return f->fd;
}

uint64_t flows_netns_cookie(const struct flows *f)
{
	return f->netns_cookie;
}

static uint64_t read_missed(const struct flows *f)
{
	const __u32 key = TPROXY_CAPTURE_MISSED;
	uint64_t missed = 0;

	bpf_map_lookup_elem(f->capture_fd, &key, &missed);
	return missed;
}

uint64_t flows_missed(const struct flows *f)
{
	return read_missed(f) - f->missed_before;
}

bool flows_have_stalled(const struct flows *f)
{
	return f->stalled;
}

static void add_redirected(struct flows *f, const struct conns_entry *entry)
{
	const struct tproxy_conn *conn = &entry->conn;
	const struct tproxy_flow_key key = {
		.netns_cookie = conn->netns_cookie,
		.local = conn->src,
		.remote = conn->relay,
	};
	struct tproxy_flow flow = {
		.cookie = entry->cookie,
		.started_ns = conn->started_ns,
		.cgroup_id = conn->cgroup_id,
		.pid = conn->pid,
		.uid = conn->uid,
		.src = conn->src,
		.dst = conn->dst,
		.leg = TPROXY_LEG_CLIENT,
	};

	memcpy(flow.comm, conn->comm, sizeof(flow.comm));
	bpf_map_update_elem(f->fd, &key, &flow, BPF_NOEXIST);
}

/* Adds a connection, if its SYN was sent, and in this network namespace. Returns 0. */
static int add_observed(uint64_t cookie, const struct tproxy_observed *observed, void *data)
{
	const struct flows *f = data;
	const struct tproxy_flow_key key = {
		.netns_cookie = observed->netns_cookie,
		.local = observed->src,
		.remote = observed->dst,
	};
	struct tproxy_flow flow = {
		.cookie = cookie,
		.started_ns = observed->started_ns,
		.cgroup_id = observed->cgroup_id,
		.pid = observed->pid,
		.uid = observed->uid,
		.src = observed->src,
		.dst = observed->dst,
		.leg = TPROXY_LEG_OBSERVED,
	};

	if (!(observed->flags & TPROXY_OBSERVED_SENT) || observed->netns_cookie != f->netns_cookie)
		return 0;
	memcpy(flow.comm, observed->comm, sizeof(flow.comm));
	bpf_map_update_elem(f->fd, &key, &flow, BPF_NOEXIST);
	return 0;
}

/*
 * Adds the connections of the maps. A connection that ends meanwhile would leave an entry without a
 * socket until the capture ends, so its addresses are checked once more.
 */
static int add_existing(struct flows *f)
{
	_cleanup_free_ struct conns_entry *entries = NULL;
	size_t n = 0, i;
	int r;

	r = conns_read(f->pin_dir, &entries, &n);
	if (r < 0) {
		maps_log_error(f->pin_dir, PINNED_SOCKS, r);
		return r;
	}
	for (i = 0; i < n; i++) {
		if (entries[i].conn.netns_cookie == f->netns_cookie)
			add_redirected(f, &entries[i]);
	}
	r = observed_entries_walk_pinned(f->pin_dir, add_observed, f);
	if (r < 0)
		maps_log_error(f->pin_dir, PINNED_OBSERVED, r);
	return r;
}

int flows_start(struct flows *f)
{
	int r;

	f->missed_before = read_missed(f);
	r = set_alive(f, monotonic_kernel_ns());
	if (r < 0) {
		log_err("cannot write '%s/%s': %s", f->pin_dir, pinned_maps[PINNED_CAPTURE].name,
			strerror(-r));
		return r;
	}
	return add_existing(f);
}

static uint64_t linger_ns(const struct flows *f)
{
	if (f->n_entries > FULL_ENTRIES)
		return 0;
	return f->n_entries > BUSY_ENTRIES ? LINGER_BUSY_NS : LINGER_NS;
}

/* Deletes the entries of connections that ended long ago, and counts all. */
static void pass(struct flows *f, uint64_t now_ns)
{
	__u64 position = 0, *from = NULL;
	const uint64_t linger = linger_ns(f);
	size_t n = 0;
	__u32 count, i;
	int r;

	do {
		count = BATCH_MAX;
		r = bpf_map_lookup_batch(f->fd, from, &position, f->keys, f->values, &count, NULL);
		if (r < 0 && r != -ENOENT)
			return;
		from = &position;
		for (i = 0; i < count; i++) {
			if (f->values[i].ended_ns && f->values[i].ended_ns + linger < now_ns)
				bpf_map_delete_elem(f->fd, &f->keys[i]);
			else
				n++;
		}
	} while (r == 0);
	f->n_entries = n;
	f->passed_ns = now_ns;
}

/* True if the kernel half stopped publishing, because no capture has renewed ALIVE_NS in time. */
static bool has_stalled(const struct flows *f, uint64_t now_ns)
{
	const __u32 key = TPROXY_CAPTURE_ALIVE_NS;
	uint64_t alive_ns = 0;

	return bpf_map_lookup_elem(f->capture_fd, &key, &alive_ns) == 0 &&
	       alive_ns + TPROXY_STALE_NS < now_ns;
}

void flows_tick(struct flows *f)
{
	const uint64_t now_ns = monotonic_kernel_ns();
	const bool stalled = has_stalled(f, now_ns);

	set_alive(f, now_ns);
	if (stalled) {
		f->stalled = true;
		add_existing(f); /* the sweep may have deleted them */
	}
	if (f->n_entries > BUSY_ENTRIES || now_ns - f->passed_ns >= PASS_NS)
		pass(f, now_ns);
}

static uint32_t hash(const struct packet *packet)
{
	const uint32_t h = fnv32(FNV32_BASIS, &packet->src, sizeof(packet->src));

	return fnv32(h, &packet->dst, sizeof(packet->dst));
}

static bool look_up(const struct flows *f, const struct packet *packet, struct flow *ret_flow)
{
	struct tproxy_flow_key key = {
		.netns_cookie = f->netns_cookie,
		.local = packet->src,
		.remote = packet->dst,
	};

	ret_flow->verdict = FLOW_UNDECIDED;
	ret_flow->outgoing = bpf_map_lookup_elem(f->fd, &key, &ret_flow->of) == 0;
	if (ret_flow->outgoing)
		return true;
	key.local = packet->dst;
	key.remote = packet->src;
	return bpf_map_lookup_elem(f->fd, &key, &ret_flow->of) == 0;
}

struct flow *flows_find(struct flows *f, const struct packet *packet)
{
	struct cached *slot = &f->cache[hash(packet) % CACHE_SLOTS];
	const bool begins = packet->has_tcp && packet->flags & PACKET_SYN;

	if (!slot->used || !slot->found || begins ||
	    memcmp(&slot->src, &packet->src, sizeof(slot->src)) != 0 ||
	    memcmp(&slot->dst, &packet->dst, sizeof(slot->dst)) != 0) {
		slot->used = true;
		slot->src = packet->src;
		slot->dst = packet->dst;
		slot->found = look_up(f, packet, &slot->flow);
	}
	return slot->found ? &slot->flow : NULL;
}
