// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See relay_listen() and relay_log_registered() in relay.h. */
#include "relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/ipv6.h"
#include "kernel/marks.h"
#include "kernel/pending.h"
#include "log.h"
#include "util.h"
#include "worker/guard.h"
#include "worker/listener.h"

/* The worker that gets the next listener of a family, round robin. */
static uint32_t next_worker(const struct relay *relay, enum tproxy_family family)
{
	return relay->reg.listen[family].n_ports % relay->options.workers;
}

/* Watchers of connections leave marked sockets out. */
static void guard_port(const struct relay *relay, struct listener_fds *fds)
{
	int fd = guard_open(fds->fd);

	if (fd < 0) {
		log_debug("the port of a listener has no guard: %s", strerror(-fd));
		return;
	}
	marks_set(relay->reg.marks_fd, fd, TPROXY_MARK_UPSTREAM);
	fds->guard_fd = fd;
}

/*
 * Adds a listener to what is published, guards its port, and gives it to the next worker. Returns
 * 0, or -errno, logged; then the listener and its sink are closed.
 */
static int share_out(struct relay *relay, struct worker_sockets *sockets, enum tproxy_family family,
		     struct listener_fds *fds)
{
	struct worker_sockets *to = &sockets[next_worker(relay, family)];
	int r = registration_add_listener(&relay->reg, fds->fd);

	if (r < 0) {
		listener_fds_close(fds);
		return r;
	}
	guard_port(relay, fds);
	to->listen_fds[family][to->n_listen[family]++] = *fds;
	return 0;
}

/* The ring for connections that are pending at the listeners of a worker. */
static struct pending_ring *ring_of(struct relay *relay, uint32_t worker)
{
	return pending_ring(relay->pending, worker % relay->n_rings);
}

/* Closes the maps of pending connections, and says once why connect() does not wait. */
static void give_up_pairs(struct relay *relay, int error)
{
	static struct log_limit limit;

	relay->pairs = false;
	if (!relay->options.honest_connect)
		log_debug("no listener is one of a pair: %s", strerror(-error));
	else
		log_limited(&limit, LOG_LEVEL_WARNING,
			    "--honest-connect has no effect, clients are accepted first: %s",
			    error == -ENOENT   ? "'tproxy-load' is of an older version"
			    : error == -ENOSPC ? "other relays use all rings"
					       : strerror(-error));
}

/* Opens the maps of pending connections and claims rings, unless that is done already. */
static void open_pending(struct relay *relay)
{
	int r = 0;

	if (relay->pending &&
	    (relay->ring_lost || !pending_is_current(relay->pending, relay->options.pin_dir)))
		pending_unref(TAKE_PTR(relay->pending));
	relay->ring_lost = false;
	if (!relay->pending)
		r = pending_open(relay->options.pin_dir, relay->ring_owner, &relay->pending);
	relay->n_rings = r == 0 ? pending_claim(relay->pending, relay->options.workers) : 0;
	relay->pairs = relay->n_rings > 0;
	if (!relay->pairs)
		give_up_pairs(relay, r < 0 ? r : -ENOSPC);
}

/*
 * Binds the next listener of a family, as a pair if that is possible. Returns 0 or -errno, logged.
 */
static int bind_one(struct relay *relay, enum tproxy_family family, const union sockaddr_any *addr,
		    struct worker_sockets *sockets)
{
	const struct options *options = &relay->options;
	struct listener_fds fds = LISTENER_FDS_NULL;
	int r = 0;

	if (relay->pairs) {
		r = listener_bind_pair(&relay->reg, relay->pending,
				       ring_of(relay, next_worker(relay, family)),
				       options->honest_connect, addr, (int)options->backlog, &fds);
		if (r == 0)
			return share_out(relay, sockets, family, &fds);
	}
	fds.fd = listener_bind(&relay->reg, addr, (int)options->backlog);
	if (fds.fd < 0)
		return fds.fd;
	if (r == -EADDRINUSE)
		log_warning(
			"a process of another user has bound port %u without listening: clients whose SYN waits may be disturbed",
			ntohs(addr->in.sin_port));
	if (r < 0)
		give_up_pairs(relay, r);
	return share_out(relay, sockets, family, &fds);
}

/*
 * Binds the missing listeners of one family and shares them out to the workers. With a port in
 * --listen, the listeners have consecutive ports from there on. A host without IPv6 gets no IPv6
 * listeners, unless --listen names an IPv6 address: then the start fails. Returns 0 or -errno,
 * logged.
 */
static int bind_family(struct relay *relay, enum tproxy_family family,
		       struct worker_sockets *sockets)
{
	const struct options *options = &relay->options;
	union sockaddr_any addr = options->listen[family];
	const uint16_t port = ntohs(addr.in.sin_port);
	uint32_t i;
	int r;

	if (family == TPROXY_INET6 && !relay->options.listen_given[family] && !ipv6_is_present()) {
		log_debug("no IPv6 here, listening on IPv4 only");
		return 0;
	}
	for (i = relay->reg.listen[family].n_ports;
	     i < options->workers * options_listeners(options, family); i++) {
		if (port)
			addr.in.sin_port = htons((uint16_t)(port + i));
		r = bind_one(relay, family, &addr, sockets);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * True if the socket, one of n of its family, listens where the options want. The configuration may
 * have changed since it was made.
 */
static bool is_wanted(const struct options *options, int fd, uint32_t n)
{
	union sockaddr_any addr = {}, wanted;
	socklen_t len = sizeof(addr);
	uint16_t port, first;

	if (getsockname(fd, &addr.sa, &len) < 0)
		return false;
	wanted = options->listen[addr.sa.sa_family == AF_INET6 ? TPROXY_INET6 : TPROXY_INET];
	port = ntohs(addr.in.sin_port);
	first = ntohs(wanted.in.sin_port);
	wanted.in.sin_port = addr.in.sin_port;
	return memcmp(&addr, &wanted, sockaddr_len(&wanted)) == 0 &&
	       (!first || (port >= first && (uint32_t)(port - first) < n));
}

static enum tproxy_family family_of(int fd)
{
	socklen_t len = sizeof(int);
	int domain = 0;

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	return domain == AF_INET6 ? TPROXY_INET6 : TPROXY_INET;
}

/* A listening socket of an earlier child. */
struct inherited {
	int fd, sink_fd; /* sink_fd -1: not one of a pair; fd -1: it is the sink of another one */
	struct tproxy_mark mark;
};

/* Puts the sink of each pair beside its real listener. Returns false if one of them is missing. */
static bool match_pairs(struct inherited *all, uint32_t n)
{
	uint32_t i, j;

	for (i = 0; i < n; i++) {
		if (!(all[i].mark.flags & TPROXY_MARK_HONEST) || !listener_is_sink(all[i].fd))
			continue;
		for (j = 0; j < n; j++) {
			if (j != i && (all[j].mark.flags & TPROXY_MARK_HONEST) &&
			    all[j].mark.pair == all[i].mark.pair && all[j].sink_fd < 0)
				break;
		}
		if (j == n)
			return false;
		all[j].sink_fd = all[i].fd;
		all[i].fd = -1;
	}
	return true;
}

/* True if a listener is what this process would make: a pair in one of its rings, or none. */
static bool is_as_ours(struct relay *relay, const struct inherited *one)
{
	const uint32_t flags = one->mark.flags;

	if (!(flags & TPROXY_MARK_HONEST))
		return !relay->pairs;
	return relay->pairs && one->sink_fd >= 0 &&
	       !(flags & TPROXY_MARK_HONEST_DEFAULT) == !relay->options.honest_connect &&
	       pending_pair_adopt(relay->pending, one->mark.pair, one->fd);
}

/* True if all inherited sockets fit the maps pinned now and the configuration. */
static bool all_fit(struct relay *relay, struct inherited *all, uint32_t n)
{
	uint32_t n_of[_TPROXY_FAMILY_MAX] = {}, i;
	bool fit = n > 0;

	for (i = 0; i < n && fit; i++)
		fit = registration_knows_listener(&relay->reg, all[i].fd, &all[i].mark);
	fit = fit && match_pairs(all, n);
	for (i = 0; i < n && fit; i++) {
		if (all[i].fd >= 0)
			n_of[family_of(all[i].fd)]++;
	}
	for (i = 0; i < n && fit; i++) {
		if (all[i].fd >= 0)
			fit = is_wanted(&relay->options, all[i].fd, n_of[family_of(all[i].fd)]) &&
			      is_as_ours(relay, &all[i]) &&
			      listen(all[i].fd, (int)relay->options.backlog) == 0;
	}
	return fit;
}

/*
 * Adopts the listening sockets of an earlier child that was killed: clients may wait in their
 * backlog, or be pending. If one of them does not fit, all are closed.
 */
static void adopt_inherited(struct relay *relay, struct worker_sockets *sockets)
{
	struct supervisor_child *from = &relay->inherited;
	struct inherited *all = calloc(from->n_sockets + 1, sizeof(*all));
	const uint32_t n = from->n_sockets;
	bool fit;
	uint32_t i;

	for (i = 0; all && i < n; i++)
		all[i] = (struct inherited){ .fd = from->sockets[i], .sink_fd = -1 };
	fit = all && all_fit(relay, all, n);
	from->n_sockets = 0;
	for (i = 0; i < n; i++) {
		if (!fit)
			close(from->sockets[i]);
		else if (all[i].fd >= 0)
			share_out(relay, sockets, family_of(all[i].fd),
				  &(struct listener_fds){ all[i].fd, all[i].sink_fd, -1 });
	}
	free(all);
}

static int bind_all(struct relay *relay, struct worker_sockets *sockets)
{
	enum tproxy_family family;
	uint32_t i;
	int r;

	for (i = 0; i < relay->options.workers; i++) {
		r = registration_marks(&relay->reg, relay->options.error_memory_ms,
				       &sockets[i].marks);
		if (r < 0)
			return r;
	}
	open_pending(relay);
	for (i = 0; relay->pairs && i < relay->options.workers; i++) {
		sockets[i].pending = pending_ref(relay->pending);
		sockets[i].ring = i < relay->n_rings ? pending_ring(relay->pending, i) : NULL;
	}
	adopt_inherited(relay, sockets);
	for (family = 0; family < _TPROXY_FAMILY_MAX; family++) {
		r = bind_family(relay, family, sockets);
		if (r < 0)
			return r;
	}
	return registration_publish(&relay->reg);
}

/* Gives the supervisor duplicates of the listeners: if this process is killed, clients wait there.
 */
static void hold_listeners(const struct relay *relay, const struct worker_sockets *sockets)
{
	int all[SUPERVISOR_SOCKETS_MAX], family;
	uint32_t i, j, n = 0;

	if (relay->supervisor_fd < 0)
		return;
	for (i = 0; i < relay->options.workers; i++) {
		for (family = 0; family < _TPROXY_FAMILY_MAX; family++) {
			for (j = 0; j < sockets[i].n_listen[family]; j++) {
				const struct listener_fds *fds = &sockets[i].listen_fds[family][j];

				all[n++] = fds->fd;
				if (fds->sink_fd >= 0)
					all[n++] = fds->sink_fd;
			}
		}
	}
	supervisor_hold(relay->supervisor_fd, all, n);
}

int relay_listen(struct relay *relay)
{
	_cleanup_free_ struct worker_sockets *sockets = NULL;
	uint32_t i;
	int r;

	sockets = calloc(relay->options.workers, sizeof(*sockets));
	if (!sockets) {
		log_err("out of memory for listeners");
		return -ENOMEM;
	}
	for (i = 0; i < relay->options.workers; i++)
		sockets[i] = (struct worker_sockets)WORKER_SOCKETS_NULL;
	r = bind_all(relay, sockets);
	if (r == 0)
		hold_listeners(relay, sockets);
	for (i = 0; i < relay->options.workers; i++) {
		if (r < 0)
			worker_sockets_close(&sockets[i]);
		else
			worker_listen(&relay->workers[i], &sockets[i]);
	}
	return r;
}

void relay_log_registered(const struct relay *relay, struct log_limit *limit)
{
	const struct tproxy_listen *listen = relay->reg.listen;
	const union sockaddr_any addr = registration_address(&relay->reg, TPROXY_INET);
	const union sockaddr_any addr6 = registration_address(&relay->reg, TPROXY_INET6);
	char text[FORMAT_ENDPOINT_LEN], text6[FORMAT_ENDPOINT_LEN];
	bool has6 = listen[TPROXY_INET6].n_ports > 0;

	log_limited(limit, LOG_LEVEL_INFO,
		    "registered pid %u, listening on %s%s%s, workers %u, ports %u%s",
		    relay->reg.pid, format_endpoint(&addr, text), has6 ? " and " : "",
		    has6 ? format_endpoint(&addr6, text6) : "", relay->options.workers,
		    listen[TPROXY_INET].n_ports + listen[TPROXY_INET6].n_ports,
		    relay->pairs && relay->options.honest_connect ? ", honest connect" : "");
}
