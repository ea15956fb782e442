// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load, both load and unload. See handshakes.h. */
#include "handshakes.h"

#include <bpf/bpf.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "state/relays.h"
#include "tproxy_abi.h"
#include "util.h"

#define GRACE_MS     200
#define MOST_MS	     5000
#define ENTRIES_MOST 65536 /* in map_socks */
#define LISTEN	     0x0a  /* TCP_LISTEN in /proc/net/tcp, see proc(5) */

static bool listens_at(const struct tproxy_relay *relay, unsigned int port)
{
	size_t i;
	int f;

	for (f = 0; f < _TPROXY_FAMILY_MAX; f++) {
		const struct tproxy_listen *listen = &relay->listen[f];

		for (i = 0; i < listen->n_ports && i < TPROXY_PORTS_MAX; i++) {
			if (listen->ports[i] == port)
				return true;
		}
	}
	return false;
}

/*
 * Returns true if a listener of the relay has connections that were not accepted yet. @table is tcp
 * or tcp6, read in the network namespace of the relay. Listening sockets come first in it, and
 * their rx_queue is the length of the accept queue. Returns false if the process is gone or has no
 * such PID in our PID namespace.
 */
static bool has_waiting(const struct tproxy_relay *relay, const char *table)
{
	unsigned int port, state, waiting;
	_cleanup_fclose_ FILE *file = NULL;
	bool found = false;
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/%u/net/%s", relay->pid, table);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		if (sscanf(line, " %*u: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*x:%x", &port, &state,
			   &waiting) != 3)
			continue; /* the heading */
		if (state != LISTEN)
			break;
		found = waiting > 0 && listens_at(relay, port);
	}
	return found;
}

static bool have_waiting(const struct relays_entry *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (has_waiting(&list[i].relay, "tcp") || has_waiting(&list[i].relay, "tcp6"))
			return true;
	}
	return false;
}

/*
 * True if a client waits in connect() until its destination is reached. No client comes meanwhile,
 * but entries may go: then the kernel begins again at the first key, hence the limit.
 */
static bool have_pending(int socks_fd)
{
	struct tproxy_conn conn;
	__u64 key, *before = NULL;
	__u32 i;

	for (i = 0; i < ENTRIES_MOST && bpf_map_get_next_key(socks_fd, before, &key) == 0; i++) {
		if (bpf_map_lookup_elem(socks_fd, &key, &conn) == 0 && conn.pending &&
		    !(conn.flags & TPROXY_CONN_TAKEN))
			return true;
		before = &key;
	}
	return false;
}

void handshakes_let_end(const struct relays_entry *list, size_t n, int socks_fd)
{
	const struct timespec grace = { .tv_nsec = GRACE_MS * 1000000L };
	int waited_ms = 0;

	/*
	 * Pause before each check: the relay may have accepted a connection and not have asked for
	 * its destination yet.
	 */
	do {
		nanosleep(&grace, NULL);
		waited_ms += GRACE_MS;
	} while (waited_ms < MOST_MS &&
		 (have_waiting(list, n) || (socks_fd >= 0 && have_pending(socks_fd))));
}
