// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See dial.h. */
#include "dial.h"

#include <errno.h>
#include <event2/util.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/registration.h"
#include "log.h"
#include "parse.h"
#include "session.h"
#include "sock.h"
#include "worker/worker.h"

/* True if connect() failed for a local reason, which says nothing about the destination. */
static bool is_local(int error)
{
	return error == EADDRNOTAVAIL || error == EADDRINUSE || error == EAGAIN ||
	       error == ENOBUFS || error == ENOMEM || error == EPERM || error == EACCES;
}

void dial_failed(struct session *s, int error)
{
	char dst[FORMAT_ENDPOINT_LEN];

	/*
	 * The server accepted, possibly sent data, and reset, all before this worker got the event.
	 * (A refused connect() fails with ECONNREFUSED.) Pass its data on before the reset.
	 */
	if (error == ECONNRESET || error == EPIPE) {
		session_reset_by(s, SESSION_SERVER);
		return;
	}
	format_endpoint(&s->dst, dst);
	if (is_local(error) && log_episode_begins(&s->worker->limit->dial_failed))
		log_warning("this host does not let us connect, to %s and maybe others: %s", dst,
			    strerror(error));
	else
		log_debug("cannot connect to %s: %s", dst, strerror(error));
	registration_note_error(&s->worker->handle, &s->dst, error);
	s->dial_error = error;
	session_destroy(s, CLOSE_DIAL_FAILED);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	int error = 0;
	socklen_t len = sizeof(error);

	session_woke(s);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		dial_failed(s, error);
		return;
	}
	half_connected(&s->up);
	session_open(s);
}

/* Returns 0 if connected, -EINPROGRESS while the handshake is under way, or another -errno. */
static int start_connect(int fd, const union sockaddr_any *dst)
{
	if (connect(fd, &dst->sa, sockaddr_len(dst)) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	/* The handshake with a nearby server may be complete. Calling again is cheaper than poll().
	 */
	if (connect(fd, &dst->sa, sockaddr_len(dst)) == 0)
		return 0;
	return errno == EALREADY ? -EINPROGRESS : -errno;
}

void dial_start(struct session *s, bool crowded)
{
	bool early = crowded && pump_prefetch(&s->up.pump, &s->worker->tools);
	int r;

	if (early)
		sock_set_quickack(s->server_fd, false);
	r = start_connect(s->server_fd, &s->dst);
	if (r == 0) {
		session_open(s);
	} else if (r == -EINPROGRESS) {
		if (early)
			sock_set_quickack(s->server_fd, true);
		deadline_set(&s->deadline, &s->worker->connecting);
		if (half_wait_connected(&s->up, on_connected, s) < 0)
			session_destroy(s, CLOSE_NO_MEMORY);
		else
			session_watch(s);
	} else {
		dial_failed(s, -r);
	}
}
