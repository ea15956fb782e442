// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See relay_admin.h. What is not one of the registered listeners is the admin address: a relay
 * listens nowhere else.
 */
#include "relay_admin.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/address.h"
#include "host/admin_client.h"
#include "host/listeners.h"
#include "host/process_sockets.h"
#include "tproxy_abi.h"
#include "util.h"

/* A relay makes its socket under a longer name first, and the kernel keeps that name. */
#define TEMPORARY ".new"

struct unix_path {
	char text[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
};

/* Called for each socket of the relay: stops at one that listens at a path. */
static int find_path(int fd, void *data)
{
	_cleanup_close_ int own = fd;
	struct sockaddr_un addr = {};
	socklen_t len = sizeof(addr), int_len = sizeof(int);
	struct unix_path *path = data;
	char *suffix;
	int listens = 0;

	if (getsockopt(own, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_len) < 0 || !listens ||
	    getsockname(own, (struct sockaddr *)&addr, &len) < 0 || addr.sun_family != AF_UNIX ||
	    addr.sun_path[0] != '/')
		return 0;
	snprintf(path->text, sizeof(path->text), "%.*s", (int)sizeof(addr.sun_path), addr.sun_path);
	suffix = path->text + strlen(path->text) - strlen(TEMPORARY);
	if (suffix > path->text && strcmp(suffix, TEMPORARY) == 0)
		*suffix = '\0';
	return 1;
}

/* Returns a descriptor or -errno. */
static int connect_unix(pid_t pid, const char *path)
{
	_cleanup_close_ int file = -1, fd = -1;
	struct ucred listener = {};
	socklen_t len = sizeof(listener);
	char through[sizeof(struct unix_path) + 64];

	snprintf(through, sizeof(through), "/proc/%d/root%s", pid, path);
	file = open(through, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (file < 0)
		return -errno;
	/* An address of a UNIX socket has only 108 bytes. */
	snprintf(through, sizeof(through), "/proc/self/fd/%d", file);
	fd = admin_client_connect(through);
	if (fd < 0)
		return fd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &len) < 0)
		return -errno;
	return listener.pid == pid ? TAKE_FD(fd) : -ENOENT;
}

static bool is_registered(const struct tproxy_relay *relay, const struct tproxy_endpoint *ep)
{
	size_t family, i;

	for (family = 0; family < _TPROXY_FAMILY_MAX; family++) {
		const struct tproxy_listen *listen = &relay->listen[family];

		for (i = 0; i < listen->n_ports && i < TPROXY_PORTS_MAX; i++) {
			if (listen->ports[i] == ep->port)
				return true;
		}
	}
	return false;
}

/* Returns a descriptor or -errno. */
static int connect_tcp(const struct tproxy_relay *relay)
{
	_cleanup_(listeners_finish) struct listeners own = {};
	_cleanup_close_ int here = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[ADDRESS_ENDPOINT_LEN];
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	size_t i;
	int r;

	if (here < 0 || getsockopt(here, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		return -errno;
	r = listeners_dup((pid_t)relay->pid, NULL, 0, &own);
	if (r < 0)
		return r;
	for (i = 0; i < own.n; i++) {
		const struct listening_socket *l = &own.list[i];

		if (l->pid == (pid_t)relay->pid && l->netns_cookie == cookie &&
		    !is_registered(relay, &l->ep))
			return admin_client_connect(address_format_endpoint(&l->ep, text));
	}
	return -ENOENT;
}

int relay_admin_get(const struct tproxy_relay *relay, const char *document, char **ret_body)
{
	_cleanup_close_ int fd = -1;
	struct unix_path path;
	int r;

	r = process_sockets_each((pid_t)relay->pid, find_path, &path);
	if (r < 0)
		return r;
	fd = r > 0 ? connect_unix((pid_t)relay->pid, path.text) : connect_tcp(relay);
	return fd < 0 ? fd : admin_client_ask(fd, document, ret_body);
}
