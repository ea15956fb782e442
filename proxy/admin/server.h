/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The HTTP server of the admin address, on the event base of the main thread. It answers GET and
 * HEAD for some fixed paths, one request for each connection.
 *
 * What a client can take is bounded: number of connections, bytes of a request, time. Clients that
 * come when all places are taken wait in the backlog; connections without a complete request then
 * give up their places at once.
 */
#ifndef TPROXY_ADMIN_SERVER_H
#define TPROXY_ADMIN_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct event_base;

struct admin_page {
	const char *path;
	const char *content_type;
	/* Writes the body. If out has an error afterwards, the answer is 500. */
	void (*write)(FILE *out, void *data);
};

struct admin_server;

/*
 * Serves the pages, which must outlive the server, on a listening socket, which stays the caller's.
 * Requests whose Host header does not name this host's loopback are refused: a page of another site
 * can make a browser send them (DNS rebinding), also through a tunnel to a UNIX socket. need_host:
 * refuse those without that header too. data is for the pages. Returns 0 or -ENOMEM.
 */
int admin_server_start(struct event_base *base, int fd, bool need_host,
		       const struct admin_page *pages, size_t n_pages, void *data,
		       struct admin_server **ret_server);
/* True if there is no client that admin_server_stop() would cut off. */
bool admin_server_is_idle(struct admin_server *server);
/* Ends all connections. Accepts NULL. */
void admin_server_stop(struct admin_server *server);

/* True if the value of a Host header is localhost or a loopback address, with or without a port. */
bool admin_host_is_loopback(const char *host);

#endif
