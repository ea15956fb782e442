// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the registered relays. A connection to a relay's port would tell little, and
 * would be a connection. Instead: is the process there and running, does a socket listen at the
 * address that it has registered, in its own network namespace, is that socket the relay's own, and
 * does it carry our mark? For the last one the listener is borrowed (pidfd_getfd(2)), because a
 * mark can be read by who holds the socket only.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpffs.h"
#include "doctor.h"
#include "fields.h"
#include "monotonic.h"
#include "tproxy_abi.h"

/* Listening sockets at one address: those that share a port that was asked for (SO_REUSEPORT). */
#define LISTENERS_MAX 1024
#define STATE_LISTEN  0x0a /* in /proc/net/tcp */
/* Two descriptors for each connection. */
#define NOFILE_FEW 4096

enum process {
	PROCESS_RUNS,
	PROCESS_STOPPED,
	PROCESS_GONE,
};

struct listeners {
	unsigned long inode[LISTENERS_MAX];
	size_t n;
};

/* Addresses in /proc/net/tcp{,6} are 32-bit words, each printed in the host's byte order. */
static bool parse_address(const char *hex, unsigned char addr[16])
{
	size_t words = strspn(hex, "0123456789ABCDEF") / 8, i;
	uint32_t word;

	memset(addr, 0, 16);
	if (words != 1 && words != 4)
		return false;
	if (words == 1)
		addr[10] = addr[11] = 0xff;
	for (i = 0; i < words; i++) {
		if (sscanf(hex + 8 * i, "%8" SCNx32, &word) != 1)
			return false;
		memcpy(addr + (words == 1 ? 12 : 4 * i), &word, sizeof(word));
	}
	return true;
}

/* A wildcard takes connections to any address of its family; :: those of both. */
static bool is_wildcard(const unsigned char addr[16], const struct tproxy_endpoint *ep)
{
	static const unsigned char any6[16], any4[16] = { [10] = 0xff, [11] = 0xff };

	return memcmp(addr, any6, sizeof(any6)) == 0 ||
	       (memcmp(addr, any4, sizeof(any4)) == 0 && memcmp(ep->addr, any4, 12) == 0);
}

static void find_listeners(pid_t pid, const char *table, const struct tproxy_endpoint *ep,
			   struct listeners *found)
{
	char path[64], line[512], local[64];
	unsigned int port, state;
	unsigned char addr[16];
	unsigned long inode;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/net/%s", pid, table);
	f = fopen(path, "re");
	while (f && found->n < LISTENERS_MAX && fgets(line, sizeof(line), f)) {
		/* sl, local, remote, state, queues, timer, retransmits, uid, timeout, inode */
		if (sscanf(line, "%*d: %63[0-9A-F]:%x %*s %x %*s %*s %*s %*s %*s %lu", local, &port,
			   &state, &inode) != 4 ||
		    state != STATE_LISTEN || port != ep->port || !parse_address(local, addr))
			continue;
		if (memcmp(addr, ep->addr, sizeof(addr)) == 0 || is_wildcard(addr, ep))
			found->inode[found->n++] = inode;
	}
	if (f)
		fclose(f);
}

/* One of these listeners among the descriptors of the process: its number there; -1: none is. */
static int find_descriptor(pid_t pid, const struct listeners *listeners)
{
	char path[64], target[64];
	unsigned long inode;
	struct dirent *entry;
	int found = -1;
	ssize_t len;
	size_t i;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && found < 0 && (entry = readdir(dir))) {
		len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		if (sscanf(target, "socket:[%lu]", &inode) != 1)
			continue;
		for (i = 0; i < listeners->n && found < 0; i++) {
			if (listeners->inode[i] == inode)
				found = atoi(entry->d_name);
		}
	}
	if (dir)
		closedir(dir);
	return found;
}

/* The mark of a socket of another process; -errno. */
static int read_mark(const struct doctor *d, pid_t pid, int fd_there, struct tproxy_mark *ret_mark)
{
	_cleanup_close_ int pidfd = -1, fd = -1, marks_fd = -1;
	int r;

	r = bpffs_open_map(d->pin_dir, "map_marks", sizeof(int), sizeof(*ret_mark),
			   /* writable= */ false, &marks_fd);
	if (r < 0)
		return r;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -errno;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, fd_there, 0);
	if (fd < 0)
		return -errno;
	return bpf_map_lookup_elem(marks_fd, &fd, ret_mark);
}

/* Returns whether it is well. */
static bool check_listener(struct doctor *d, const struct tproxy_relay *relay,
			   const struct tproxy_endpoint *ep)
{
	const pid_t pid = (pid_t)relay->pid;
	struct listeners listeners = {};
	struct tproxy_mark mark = {};
	char text[FIELDS_ENDPOINT_LEN];
	int fd, r;

	fields_format_endpoint(ep, text);
	find_listeners(pid, "tcp", ep, &listeners);
	find_listeners(pid, "tcp6", ep, &listeners);
	if (listeners.n == 0) {
		doctor_add(d, DOCTOR_ERROR, "relay", "relay %d: nobody listens at %s", pid, text);
		doctor_mend(d, DOCTOR_MEND_RELAY);
		return false;
	}
	fd = find_descriptor(pid, &listeners);
	if (fd < 0) {
		doctor_add(d, DOCTOR_ERROR, "relay",
			   "relay %d: the socket that listens at %s is another process's", pid,
			   text);
		doctor_mend(d, "ss -Hltnp 'sport = :%u'; end that process, then " DOCTOR_MEND_RELAY,
			    ep->port);
		return false;
	}
	r = read_mark(d, pid, fd, &mark);
	if (r < 0 && r != -ENOENT) {
		doctor_add(d, DOCTOR_INFO, "relay", "relay %d: the mark of %s cannot be read: %s",
			   pid, text, strerror(-r));
		return true;
	}
	if (mark.flags & TPROXY_MARK_LISTENER && mark.flags & TPROXY_MARK_HOOKED)
		return true;
	doctor_add(d, DOCTOR_ERROR, "relay",
		   mark.flags & TPROXY_MARK_LISTENER
			   ? "relay %d: sockops is not attached where the listener at %s was made"
			   : "relay %d: the listener at %s is not marked for these pins",
		   pid, text);
	doctor_mend(d, DOCTOR_MEND_RELAY);
	return false;
}

/* The letter of /proc/PID/stat, '?' if it is not there. */
static char process_state(pid_t pid)
{
	char path[64], line[512];
	const char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (doctor_read_line(path, line, sizeof(line)) < 0)
		return '?';
	end = strrchr(line, ')'); /* behind the name, whatever that has in it */
	return end && end[1] ? end[2] : '?';
}

/* prlimit(2) would take CAP_SYS_RESOURCE. The soft limit, which the relay has raised; 0: unknown.
 */
static unsigned long open_files_max(pid_t pid)
{
	unsigned long limit = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Max open files %lu", &limit) == 1)
			break;
	}
	if (f)
		fclose(f);
	return limit;
}

static void check_limits(struct doctor *d, pid_t pid)
{
	unsigned long limit = open_files_max(pid);

	if (!limit || limit >= NOFILE_FEW)
		return;
	doctor_add(d, DOCTOR_WARNING, "nofile",
		   "relay %d may open %lu files: it serves few connections at a time", pid, limit);
	doctor_mend(d,
		    "systemctl edit tproxy-relay, set LimitNOFILE=65536 in [Service], restart it");
}

static enum process check_process(struct doctor *d, const struct tproxy_relay *relay)
{
	const pid_t pid = (pid_t)relay->pid;

	if (kill(pid, 0) < 0 && errno == ESRCH) {
		doctor_add(d, DOCTOR_ERROR, "relay",
			   "relay %d is registered, but there is no such process: connections %s",
			   pid, d->fail_closed ? "are refused" : "go directly");
		doctor_mend(d, DOCTOR_MEND_RELAY);
		return PROCESS_GONE;
	}
	switch (process_state(pid)) {
	case 'Z':
	case 'X':
		doctor_add(d, DOCTOR_ERROR, "relay",
			   "relay %d has ended, and its parent has not noticed", pid);
		doctor_mend(d, DOCTOR_MEND_RELAY);
		return PROCESS_GONE;
	case 'T':
	case 't':
		doctor_add(d, DOCTOR_ERROR, "relay", "relay %d is stopped", pid);
		doctor_mend(d, "kill -CONT %d", pid);
		return PROCESS_STOPPED;
	default:
		return PROCESS_RUNS;
	}
}

/* It says so every second; one that does not gets no connections. */
static bool is_alive(struct doctor *d, const struct tproxy_relay *relay)
{
	uint64_t now = monotonic_kernel_ns();

	if (!relay->alive_ns || now < relay->alive_ns + TPROXY_STALE_NS)
		return true;
	doctor_add(d, DOCTOR_ERROR, "relay",
		   "relay %u has not said for %" PRIu64 " s that it is alive: connections %s",
		   relay->pid, (uint64_t)(now - relay->alive_ns) / 1000000000,
		   d->fail_closed ? "are refused" : "go directly");
	doctor_mend(d, DOCTOR_MEND_RELAY);
	return false;
}

/* All ports of one family. */
static void check_listeners(struct doctor *d, __u64 cookie, const struct tproxy_relay *relay,
			    const struct tproxy_listen *listen, bool serves)
{
	char text[FIELDS_ENDPOINT_LEN], more[32] = "";
	struct tproxy_endpoint ep = {};
	int i;

	memcpy(ep.addr, listen->addr, sizeof(ep.addr));
	for (i = 0; i < listen->n_ports && i < TPROXY_PORTS_MAX; i++) {
		ep.port = listen->ports[i];
		serves &= check_listener(d, relay, &ep);
	}
	if (i == 0 || !serves)
		return;
	if (i > 1)
		snprintf(more, sizeof(more), " and %d more ports", i - 1);
	ep.port = listen->ports[0];
	doctor_add(d, DOCTOR_OK, "relay",
		   "relay %u of network namespace %" PRIu64 " listens at %s%s, uid %u", relay->pid,
		   (uint64_t)cookie, fields_format_endpoint(&ep, text), more, relay->uid);
}

static void check_relay(struct doctor *d, __u64 cookie, const struct tproxy_relay *relay)
{
	const pid_t pid = (pid_t)relay->pid;
	enum process process;
	bool serves;
	int i;

	process = check_process(d, relay);
	if (process == PROCESS_GONE)
		return;
	serves = process == PROCESS_RUNS && is_alive(d, relay);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		check_listeners(d, cookie, relay, &relay->listen[i], serves);
	if (!relay->listen[TPROXY_INET6].n_ports)
		doctor_add(d, DOCTOR_INFO, "relay",
			   "relay %d does not offer IPv6, as it does while there are IPv6 routes",
			   pid);
	if (relay->missed) {
		doctor_add(d, DOCTOR_WARNING, "relay",
			   "relay %d: %" PRIu64 " connections found nobody, or a stranger, there",
			   pid, (uint64_t)relay->missed);
		doctor_mend(d, DOCTOR_MEND_RELAY);
	}
	check_limits(d, pid);
}

void doctor_relay(struct doctor *d)
{
	struct tproxy_relay relay;
	__u64 cookie, *prev = NULL;
	_cleanup_close_ int fd = -1;
	int n, r;

	if (!d->loaded)
		return;
	r = bpffs_open_map(d->pin_dir, "map_config", sizeof(cookie), sizeof(relay),
			   /* writable= */ false, &fd);
	if (r < 0) {
		doctor_add(d, DOCTOR_ERROR, "relay", "'%s/map_config' cannot be read: %s",
			   d->pin_dir, strerror(-r));
		doctor_mend(d, DOCTOR_MEND_LOAD);
		return;
	}
	/* Bounded: a key that goes meanwhile starts the walk anew. */
	for (n = 0; n < TPROXY_NAMESPACES_MAX && bpf_map_get_next_key(fd, prev, &cookie) == 0;
	     n++, prev = &cookie) {
		if (bpf_map_lookup_elem(fd, &cookie, &relay) == 0)
			check_relay(d, cookie, &relay);
	}
	if (n > 0)
		return;
	doctor_add(d, d->fail_closed ? DOCTOR_ERROR : DOCTOR_WARNING, "relay",
		   "none is registered: connections %s",
		   d->fail_closed ? "are refused" : "go directly");
	doctor_mend(d, DOCTOR_MEND_RELAY);
}
