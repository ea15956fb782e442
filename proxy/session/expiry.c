// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See expiry.h. */
#include "expiry.h"

#include <poll.h>

#include "env.h"
#include "state.h"
#include "upstream/dial.h"
#include "upstream/sock.h"
#include "upstream/tls.h"
#include "util.h"

/*
 * True if an I/O event is pending for s. The timer may fire before it: after the relay or its
 * machine was stopped, all timeouts have expired at once.
 */
static bool has_work(const struct session *s)
{
	struct pollfd fds[] = {
		{ .fd = s->c2s.reading ? s->c2s.pump.src_fd : -1, .events = POLLIN },
		{ .fd = s->c2s.writing ? s->c2s.pump.dst_fd : -1, .events = POLLOUT },
		{ .fd = s->s2c.reading ? s->s2c.pump.src_fd : -1, .events = POLLIN },
		{ .fd = s->s2c.writing ? s->s2c.pump.dst_fd : -1, .events = POLLOUT },
	};

	if (detour_of(s)->dial)
		return dial_has_work(detour_of(s)->dial);
	/* If poll() fails, assume there is work: ending a live session is worse. */
	return poll(fds, ARRAY_SIZE(fds), 0) != 0;
}

/* Returns how many bytes no receiver has acknowledged. */
static uint64_t queued(const struct session *s)
{
	const struct tls_bridge *bridge = detour_of(s)->bridge;

	return sock_queued(session_client_fd(s)) + sock_queued(session_upstream_fd(s)) +
	       (bridge ? sock_queued(tls_bridge_fd(bridge)) : 0);
}

bool expiry_is_over(struct session *s)
{
	if (s->phase < SESSION_DIALLING)
		return !has_work(s);
	if (s->phase > SESSION_DIALLING) {
		progress_check(&s->progress, s->c2s.pump.bytes + s->s2c.pump.bytes, queued(s),
			       s->deadline.touched_ms);
		if (!progress_has_stopped(&s->progress, s->deadline.queue->timeout_ms))
			return false;
	}
	/* One more interval only: a pending event may bring nothing that can be moved. */
	if (s->progress.excused || !has_work(s))
		return true;
	s->progress.excused = true;
	return false;
}

enum expiry_reset expiry_find_reset(const struct session *s)
{
	struct pollfd fds[] = { { .fd = session_client_fd(s) }, { .fd = session_upstream_fd(s) } };

	/* Only the client's socket while the server's is not connected. */
	if (poll(fds, s->phase < SESSION_RELAYING ? 1 : 2, 0) <= 0)
		return RESET_NONE;
	/* POLLHUP does not mean a reset: it is also set after both FINs, one of them unread. */
	if (fds[0].revents & POLLERR)
		return RESET_OF_CLIENT;
	return fds[1].revents & POLLERR ? RESET_OF_SERVER : RESET_NONE;
}
