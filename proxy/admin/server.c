// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See server.h. evhttp parses requests and writes answers. It limits the size of a request, but
 * neither the number of connections nor the time that a client may take: its timeout starts again
 * with each byte. So this file makes the bufferevent of each connection, keeps a reference to it,
 * and shuts its socket down when its time is over. evhttp then sees EOF and frees the connection.
 *
 * evhttp does not report that it has freed a connection. bufferevent_free() takes the callbacks off
 * the bufferevent; that is how reap() finds out. It runs every REAP_MS while there are connections,
 * every FULL_MS while all places are taken, every IDLE_MS otherwise, and when a client comes.
 */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "monotonic.h"
#include "util.h"

#define CLIENTS_MAX 16
#define HEADERS_MAX 8192
/* Limit of what is read ahead of evhttp. */
#define INPUT_MAX 16384
#define IDLE_MS	  1000
#define REAP_MS	  100
#define FULL_MS	  10
/*
 * A connection is ended after LIFE_MS. If others wait for its place, it is ended after SILENT_MS
 * without a complete request, and after SLOW_MS with an answer that is not read. Who has waited
 * for a place has sent its request by then.
 */
#define LIFE_MS	  5000
#define SLOW_MS	  1000
#define SILENT_MS 20

struct client {
	struct bufferevent *bev; /* a reference is owned */
	uint64_t since_ms;
};

struct admin_server {
	struct evhttp *http;
	struct evconnlistener *listener; /* owned by http */
	struct event *timer;
	struct client clients[CLIENTS_MAX];
	size_t n_clients;
	bool need_host;
	const struct admin_page *pages;
	size_t n_pages;
	void *data;
};

/* --- connections */

static bool has_ended(struct bufferevent *bev)
{
	bufferevent_data_cb read_cb, write_cb;
	bufferevent_event_cb event_cb;

	bufferevent_getcb(bev, &read_cb, &write_cb, &event_cb, NULL);
	return !read_cb && !write_cb && !event_cb;
}

/* Takes the places of connections that evhttp has freed. */
static void reap(struct admin_server *server)
{
	size_t i, n = 0;

	for (i = 0; i < server->n_clients; i++) {
		if (has_ended(server->clients[i].bev))
			bufferevent_decref(server->clients[i].bev);
		else
			server->clients[n++] = server->clients[i];
	}
	server->n_clients = n;
}

static void schedule(struct admin_server *server)
{
	static const struct timeval full = { .tv_usec = FULL_MS * 1000 };
	static const struct timeval busy = { .tv_usec = REAP_MS * 1000 };
	static const struct timeval idle = { .tv_sec = IDLE_MS / 1000 };

	if (server->n_clients == CLIENTS_MAX)
		event_add(server->timer, &full);
	else
		event_add(server->timer, server->n_clients > 0 ? &busy : &idle);
}

/* True if a client waits in the backlog. */
static bool has_waiting(const struct admin_server *server)
{
	struct pollfd queue = { .fd = evconnlistener_get_fd(server->listener), .events = POLLIN };

	return poll(&queue, 1, 0) > 0;
}

static uint64_t most_ms(const struct client *client, bool waited_for)
{
	if (!waited_for)
		return LIFE_MS;
	return evbuffer_get_length(bufferevent_get_output(client->bev)) ? SLOW_MS : SILENT_MS;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct admin_server *server = arg;
	const uint64_t now_ms = monotonic_coarse_ms();
	bool waited_for;
	size_t i;

	reap(server);
	waited_for = server->n_clients == CLIENTS_MAX && has_waiting(server);
	for (i = 0; i < server->n_clients; i++) {
		const struct client *client = &server->clients[i];

		if (now_ms - client->since_ms > most_ms(client, waited_for))
			shutdown(bufferevent_getfd(client->bev), SHUT_RDWR);
	}
	if (server->n_clients < CLIENTS_MAX)
		evconnlistener_enable(server->listener);
	schedule(server);
}

/* Callback of evhttp: makes the bufferevent of a new connection. */
static struct bufferevent *on_client(struct event_base *base, void *arg)
{
	struct admin_server *server = arg;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);

	reap(server);
	if (!bev || server->n_clients == CLIENTS_MAX)
		return bev;
	bufferevent_setwatermark(bev, EV_READ, 0, INPUT_MAX);
	bufferevent_incref(bev);
	server->clients[server->n_clients++] =
		(struct client){ .bev = bev, .since_ms = monotonic_coarse_ms() };
	if (server->n_clients == CLIENTS_MAX)
		evconnlistener_disable(server->listener);
	if (server->n_clients == 1 || server->n_clients == CLIENTS_MAX)
		schedule(server);
	return bev;
}

/* accept() has failed, for lack of descriptors, say. on_timer() tries again. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	evconnlistener_disable(listener);
}

/* --- requests */

bool admin_host_is_loopback(const char *host)
{
	char name[INET6_ADDRSTRLEN + 2];
	const char *end = strrchr(host, ':');
	struct in6_addr a6;
	struct in_addr a4;
	size_t len;

	/* The last colon is that of a port, unless it is in the brackets of an IPv6 address. */
	len = end && !strchr(end, ']') ? (size_t)(end - host) : strlen(host);
	if (end && end == host + len && strspn(end + 1, "0123456789") != strlen(end + 1))
		return false;
	if (len == 0 || len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	if (strcasecmp(name, "localhost") == 0)
		return true;
	if (name[0] == '[' && name[len - 1] == ']') {
		name[len - 1] = '\0';
		return inet_pton(AF_INET6, name + 1, &a6) == 1 && IN6_IS_ADDR_LOOPBACK(&a6);
	}
	return inet_pton(AF_INET, name, &a4) == 1 && ntohl(a4.s_addr) >> 24 == IN_LOOPBACKNET;
}

static bool is_for_us(const struct admin_server *server, struct evhttp_request *request)
{
	const char *host = evhttp_find_header(evhttp_request_get_input_headers(request), "Host");
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);

	/* A URI with a host is for a proxy. */
	if (!uri || evhttp_uri_get_host(uri))
		return false;
	return host ? admin_host_is_loopback(host) : !server->need_host;
}

/* Headers of every answer: nothing is stored, embedded elsewhere, or loaded from elsewhere. */
static void add_headers(struct evhttp_request *request, const char *content_type)
{
	static const char *const headers[][2] = {
		{ "Connection", "close" },
		{ "Cache-Control", "no-store" },
		{ "X-Content-Type-Options", "nosniff" },
		{ "Referrer-Policy", "no-referrer" },
		{ "Cross-Origin-Resource-Policy", "same-origin" },
		{ "Cross-Origin-Opener-Policy", "same-origin" },
		{ "X-Frame-Options", "DENY" },
		{ "Content-Security-Policy",
		  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
		  "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
	};
	struct evkeyvalq *to = evhttp_request_get_output_headers(request);
	size_t i;

	evhttp_add_header(to, "Content-Type", content_type);
	for (i = 0; i < ARRAY_SIZE(headers); i++)
		evhttp_add_header(to, headers[i][0], headers[i][1]);
}

/* Sends an answer; body may be NULL with len 0. The answer to HEAD has the headers only. */
static void answer(struct evhttp_request *request, int code, const char *reason,
		   const char *content_type, const char *body, size_t len)
{
	struct evbuffer *buffer = evbuffer_new();
	char text[32];

	add_headers(request, content_type);
	snprintf(text, sizeof(text), "%zu", len);
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Length", text);
	if (buffer && evhttp_request_get_command(request) != EVHTTP_REQ_HEAD)
		evbuffer_add(buffer, body, len);
	evhttp_send_reply(request, code, reason, buffer);
	if (buffer)
		evbuffer_free(buffer);
}

static void refuse(struct evhttp_request *request, int code, const char *reason)
{
	char body[64];
	int len = snprintf(body, sizeof(body), "%d %s\n", code, reason);

	answer(request, code, reason, "text/plain; charset=utf-8", body, (size_t)len);
}

static void send_page(const struct admin_server *server, struct evhttp_request *request,
		      const struct admin_page *page)
{
	_cleanup_free_ char *body = NULL;
	FILE *out;
	size_t len;
	bool failed;

	out = open_memstream(&body, &len);
	if (!out) {
		refuse(request, HTTP_INTERNAL, "Internal Server Error");
		return;
	}
	page->write(out, server->data);
	failed = ferror(out);
	failed |= fclose(out) != 0;
	if (failed)
		refuse(request, HTTP_INTERNAL, "Internal Server Error");
	else
		answer(request, HTTP_OK, "OK", page->content_type, body, len);
}

static void on_request(struct evhttp_request *request, void *arg)
{
	const struct admin_server *server = arg;
	const enum evhttp_cmd_type method = evhttp_request_get_command(request);
	const char *path;
	size_t i;

	if (!is_for_us(server, request)) {
		refuse(request, 421, "Misdirected Request");
		return;
	}
	if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
		evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", "GET, HEAD");
		refuse(request, HTTP_BADMETHOD, "Method Not Allowed");
		return;
	}
	path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
	for (i = 0; path && i < server->n_pages; i++) {
		if (strcmp(path, server->pages[i].path) == 0) {
			send_page(server, request, &server->pages[i]);
			return;
		}
	}
	refuse(request, HTTP_NOTFOUND, "Not Found");
}

/* --- start and end */

static int start(struct admin_server *server, struct event_base *base, int fd)
{
	static const struct timeval timeout = { .tv_sec = LIFE_MS / 1000 };

	server->timer = evtimer_new(base, on_timer, server);
	server->http = evhttp_new(base);
	if (!server->timer || !server->http)
		return -ENOMEM;
	evhttp_set_max_headers_size(server->http, HEADERS_MAX);
	evhttp_set_max_body_size(server->http, 0);
	evhttp_set_timeout_tv(server->http, &timeout);
	/* Other methods are answered by on_request(). */
	evhttp_set_allowed_methods(server->http, UINT16_MAX);
	evhttp_set_bevcb(server->http, on_client, server);
	evhttp_set_gencb(server->http, on_request, server);
	server->listener = evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!server->listener)
		return -ENOMEM;
	evconnlistener_set_error_cb(server->listener, on_accept_error);
	schedule(server);
	if (evhttp_bind_listener(server->http, server->listener))
		return 0;
	evconnlistener_free(server->listener);
	return -ENOMEM;
}

int admin_server_start(struct event_base *base, int fd, bool need_host,
		       const struct admin_page *pages, size_t n_pages, void *data,
		       struct admin_server **ret_server)
{
	struct admin_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->need_host = need_host;
	server->pages = pages;
	server->n_pages = n_pages;
	server->data = data;
	r = start(server, base, fd);
	if (r < 0)
		admin_server_stop(server);
	else
		*ret_server = server;
	return r;
}

bool admin_server_is_idle(struct admin_server *server)
{
	reap(server);
	return server->n_clients == 0 && !has_waiting(server);
}

void admin_server_stop(struct admin_server *server)
{
	size_t i;

	if (!server)
		return;
	if (server->http)
		evhttp_free(server->http);
	for (i = 0; i < server->n_clients; i++)
		bufferevent_decref(server->clients[i].bev);
	if (server->timer)
		event_free(server->timer);
	free(server);
}
