// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See relay_listen() and relay_log_registered() in relay.h. */
#include "relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/ipv6.h"
#include "log.h"
#include "util.h"
#include "worker/listener.h"

/* Gives the listener that was added last to the next worker, round robin. */
static void share_out(const struct relay *relay, struct worker_sockets *sockets, int family, int fd)
{
	uint32_t n = relay->reg.listen[family].n_ports;
	struct worker_sockets *to = &sockets[(n - 1) % relay->options.workers];

	to->listen_fds[family][to->n_listen[family]++] = fd;
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
		r = listener_bind(&relay->reg, &addr, (int)options->backlog);
		if (r < 0)
			return r;
		share_out(relay, sockets, family, r);
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

/*
 * Adopts the listening sockets of an earlier child that was killed: clients may wait in their
 * backlog. If one of them does not fit the maps pinned now or the configuration, all are closed.
 */
static void adopt_inherited(struct relay *relay, struct worker_sockets *sockets)
{
	struct supervisor_child *from = &relay->inherited;
	const uint32_t n = from->n_sockets;
	uint32_t n_of[_TPROXY_FAMILY_MAX] = {}, i;
	bool all = n > 0;

	for (i = 0; i < n; i++)
		n_of[family_of(from->sockets[i])]++;
	for (i = 0; i < n; i++)
		all = all &&
		      is_wanted(&relay->options, from->sockets[i],
				n_of[family_of(from->sockets[i])]) &&
		      registration_knows_listener(&relay->reg, from->sockets[i]) &&
		      listen(from->sockets[i], (int)relay->options.backlog) == 0;
	from->n_sockets = 0;
	for (i = 0; i < n; i++) {
		int fd = from->sockets[i];
		int family = all ? registration_add_listener(&relay->reg, fd) : -1;

		if (family >= 0)
			share_out(relay, sockets, family, fd);
		else
			close(fd);
	}
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
			for (j = 0; j < sockets[i].n_listen[family]; j++)
				all[n++] = sockets[i].listen_fds[family][j];
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
		    "registered pid %u, listening on %s%s%s, workers %u, ports %u", relay->reg.pid,
		    format_endpoint(&addr, text), has6 ? " and " : "",
		    has6 ? format_endpoint(&addr6, text6) : "", relay->options.workers,
		    listen[TPROXY_INET].n_ports + listen[TPROXY_INET6].n_ports);
}
