// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See caller.h. take_one() handles one event. It leaves the event in the ring if the client cannot
 * be served now.
 *
 * An event may be out of date or come twice: the client may have given up, and after the crash of a
 * child its successor gets the events of all clients that were not answered. An event of a client
 * that is not ours, because the owner of this ring before us had listeners at the same place, is
 * answered with ACCEPT: then the client's next SYN decides.
 */
#include "caller.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "kernel/pending.h"
#include "limit.h"
#include "listener.h"
#include "monotonic.h"
#include "session/env.h"
#include "session/join.h"
#include "session/opening_pending.h"
#include "tick.h"
#include "util.h"

/* Limit of events in one turn, before running sessions continue. */
#define EVENTS_MAX 64
/* Delay after which reading goes on when it is paused. */
#define RESUME_MS 100

static void run_later(struct callers *c, uint64_t ms)
{
	const struct timeval delay = deadline_timeval(ms);

	if (event_add(c->resume, &delay) < 0)
		c->env->lost = true;
}

static void pause_callers(struct callers *c, const char *why)
{
	listener_note_paused(c->env, why);
	c->paused = true;
	event_del(c->readable);
	run_later(c, RESUME_MS);
}

static bool is_inet6(const struct tproxy_conn *conn)
{
	static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(conn->relay.addr, mapped, sizeof(mapped)) != 0;
}

/* Makes the means to serve a client. Returns false if it cannot be served now; reading pauses. */
static bool can_serve(struct callers *c, bool inet6)
{
	int r;

	if (!limit_reserve(c->env->limit)) {
		pause_callers(c, "the limit of connections is reached");
		return false;
	}
	r = spare_prepare(&c->spares[inet6 ? TPROXY_INET6 : TPROXY_INET], c->env->sessions,
			  inet6 ? AF_INET6 : AF_INET, c->query_fd);
	if (r == 0)
		return true;
	limit_release(c->env->limit);
	pause_callers(c, strerror(-r));
	return false;
}

/*
 * Makes the sockets of the next client while this one waits for its server, or is about to send:
 * that connect() would wait for them. If it fails it shows when they are needed.
 */
static void prepare_next(struct callers *c, bool inet6)
{
	struct session_env *env = c->env->sessions;
	const sa_family_t family = inet6 ? AF_INET6 : AF_INET;

	spare_prepare(&c->spares[inet6 ? TPROXY_INET6 : TPROXY_INET], env, family, c->query_fd);
	join_prepare(&env->joins, family, &env->marks, env->exempt);
}

/* Creates the session of a client. Returns false if the event must stay. */
static bool serve(struct callers *c, const struct pending *p)
{
	struct session_env *env = c->env->sessions;
	struct tproxy_conn conn;
	struct spare *spare;
	int r;

	if (pending_state(env->pending, p) != PENDING_WAITS ||
	    pending_is_answered(env->pending, p) || session_pending_known(env, p)) {
		pending_consumed(c->ring);
		return true;
	}
	r = pending_conn(c->ring, p, &conn);
	if (r < 0) {
		if (r != -ESTALE)
			pending_answer(env->pending, p, TPROXY_ANSWER_ACCEPT);
		pending_consumed(c->ring);
		return true;
	}
	if (!can_serve(c, is_inet6(&conn)))
		return false;
	spare = &c->spares[is_inet6(&conn) ? TPROXY_INET6 : TPROXY_INET];
	pending_consumed(c->ring);
	session_create_pending(env, p, &conn, TAKE_FD(spare->fd));
	tick_need(c->env->tick);
	prepare_next(c, is_inet6(&conn));
	return true;
}

/* Handles the oldest event. Returns false if there is none, or it must stay. */
static bool take_one(struct callers *c)
{
	struct tproxy_pending_event event;
	struct pending p;

	if (!pending_next(c->ring, &event))
		return false;
	p = (struct pending){ .slot = event.slot, .generation = event.generation };
	if (event.kind == TPROXY_PENDING_SYN)
		return serve(c, &p);
	pending_consumed(c->ring);
	if (event.kind == TPROXY_PENDING_GONE)
		session_pending_gone(c->env->sessions, &p);
	return true;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct callers *c = arg;
	struct session_env *env = c->env->sessions;
	int i;

	spin_note_event(&env->spin);
	if (admission_wait(&c->wait, &env->admission, monotonic_coarse_ms())) {
		/* What the owner before us has left makes no event of the descriptor. */
		run_later(c, 1);
		return;
	}
	for (i = 0; i < EVENTS_MAX && take_one(c); i++)
		;
	if (i == EVENTS_MAX)
		run_later(c, 0);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct callers *c = arg;

	callers_resume(c);
	if (!c->paused)
		on_event(-1, 0, c);
}

void callers_resume(struct callers *c)
{
	if (!c->paused)
		return;
	c->paused = event_add(c->readable, NULL) < 0;
	run_later(c, c->paused ? RESUME_MS : 0);
}

bool callers_wait(const struct callers *c)
{
	struct tproxy_pending_event event;

	return c->ring && pending_next(c->ring, &event);
}

void callers_start(struct callers *c, struct listener_env *env, struct pending_ring *ring,
		   int query_fd)
{
	struct event_base *base = env->sessions->base;

	*c = (struct callers)CALLERS_NULL;
	c->env = env;
	c->ring = ring;
	c->query_fd = query_fd;
	c->resume = evtimer_new(base, on_resume, c);
	c->readable = event_new(base, pending_ring_fd(ring), EV_READ | EV_PERSIST, on_event, c);
	if (!c->resume || !c->readable) {
		callers_finish(c);
		env->lost = true;
	} else if (event_add(c->readable, NULL) < 0) {
		pause_callers(c, strerror(errno));
	} else {
		run_later(c, 0);
	}
}

void callers_finish(struct callers *c)
{
	int i;

	if (c->readable)
		event_free(c->readable);
	if (c->resume)
		event_free(c->resume);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		spare_close(&c->spares[i]);
	if (c->env)
		join_table_finish(&c->env->sessions->joins);
	*c = (struct callers)CALLERS_NULL;
}
