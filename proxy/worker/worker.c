// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See worker.h. Each pass of the event loop runs the callbacks that are ready: new clients
 * (listener.c), sessions (session.c), the inbox, and the timers below. Bulk transfers run from
 * bulk.c, behind all other events.
 *
 * A worker ends by event_base_loopbreak(), in end_if_drained(): it is draining, has no listeners,
 * sessions or TLS bridges, and its partner can hand no more sessions to it. A bulk worker therefore
 * ends after its partner.
 */
#include "worker.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kernel/pending.h"
#include "log.h"
#include "monotonic.h"
#include "session/session.h"
#include "slice.h"
#include "upstream/resolver.h"
#include "upstream/upstream.h"
#include "util.h"

/*
 * How long a draining worker goes on accepting. When the registration was removed, connections that
 * connect4 had redirected may still have been in their handshake.
 */
#define DRAIN_ACCEPT_MS 200
/* Intervals at which retired listeners are served: normally, and when no client can be served or
 * few come. */
#define DRAIN_POLL_MS  5
#define DRAIN_PAUSE_MS 50
/*
 * How long pending connections may keep retired listeners open. Their SYNs must find a listener
 * until the relay has joined or answered them, see on_accept_grace().
 */
#define DRAIN_PENDING_MS 60000
/* Heartbeats that a worker may miss before it counts as hung, see worker_is_stuck(). */
#define MISSING_MAX 3

static bool is_listening(const struct worker *worker)
{
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		if (worker->listeners[i].n_sockets > 0 || worker->retired[i].n_sockets > 0)
			return true;
	}
	return false;
}

static void end_if_drained(struct worker *worker)
{
	if (worker->draining && !is_listening(worker) && TAILQ_EMPTY(&worker->env.sessions) &&
	    worker->tls.n == 0 && handoff_close(&worker->handoff))
		event_base_loopbreak(worker->env.base);
}

static bool is_paused(const struct worker *worker)
{
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		if (worker->listeners[i].paused)
			return true;
	}
	return worker->callers.paused;
}

/*
 * Callback of session_env. A listener that is accepting may have created the session, so this must
 * not change listeners. after_sessions() does that when all ready events have run.
 */
static void on_session_end(struct session_env *env)
{
	struct worker *worker = env->owner;

	limit_release(&worker->shared->limit);
	if (worker->draining || is_paused(worker))
		event_active(worker->ended, EV_TIMEOUT, 1);
}

/* Callback of tls_home: a bridge may outlast its session. */
static void on_bridge_end(void *owner)
{
	struct worker *worker = owner;

	if (worker->draining)
		event_active(worker->ended, EV_TIMEOUT, 1);
}

static void after_sessions(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		listener_resume(&worker->listeners[i]);
	callers_resume(&worker->callers);
	end_if_drained(worker);
}

/* Callback of session_env: queues bulk, or hands the session to the partner. */
static bool defer(struct session_env *env, struct half *h)
{
	struct worker *worker = env->owner;

	if (!pump_is_bulk(&h->pump))
		return handoff_small(&worker->handoff, half_session(h));
	handoff_note_bulk(&worker->handoff, half_session(h));
	return bulk_queue(&worker->bulk, h);
}

static void close_listeners(struct worker *worker)
{
	int i;

	callers_finish(&worker->callers);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		listener_finish(&worker->listeners[i]);
		listener_finish(&worker->retired[i]);
	}
}

static void close_retired(struct worker *worker)
{
	int i;

	if (worker->draining)
		callers_finish(&worker->callers);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		listener_finish(&worker->retired[i]);
	end_if_drained(worker);
}

/*
 * True while a SYN of a pending connection may come to these listeners. now_ms is when they would
 * be closed. Other workers may answer for them, so all connections of this relay count.
 */
static bool has_pending(const struct worker *worker, uint64_t now_ms)
{
	return worker->pending && now_ms < worker->retire_at_ms &&
	       (worker->env.joins.n > 0 || callers_wait(&worker->callers) ||
		pending_is_any(worker->pending));
}

/* How long until the retired listeners are served again. */
static uint64_t next_turn_ms(const struct worker *worker, enum listener_left left, uint64_t now_ms)
{
	/* After DRAIN_ACCEPT_MS only pending connections keep them, and few of these are accepted.
	 */
	const bool rarely = now_ms + DRAIN_PENDING_MS >= worker->retire_at_ms + DRAIN_ACCEPT_MS;

	if (left == LISTENER_MORE)
		return 0;
	return left == LISTENER_PAUSED || rarely ? DRAIN_PAUSE_MS : DRAIN_POLL_MS;
}

/*
 * Serves the retired listeners, a few clients at a time. A flood of direct connections to the
 * relay's port must neither delay other sessions nor keep the worker from ending. Clients that wait
 * because of the session limit are served too, until the drain timeout.
 *
 * A pending connection has to be joined first, or come for its answer with its next SYN: one that
 * finds no listener fails with another error. So the time to accept begins again with the last
 * pending connection, unless those that are left in the backlog are counted already.
 */
static void on_accept_grace(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	const uint64_t now_ms = monotonic_coarse_ms();
	enum listener_left first = LISTENER_EMPTY, left;
	struct timeval delay;
	bool last;
	int i;

	last = now_ms - worker->retired_ms >= DRAIN_ACCEPT_MS;
	if (last && !worker->retired[TPROXY_INET].counted && has_pending(worker, now_ms)) {
		worker->retired_ms = now_ms;
		last = false;
	}
	spin_note_event(&worker->env.spin);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		left = listener_serve_retired(&worker->retired[i], last);
		first = left < first ? left : first;
	}
	if (last && first == LISTENER_EMPTY) {
		close_retired(worker);
		return;
	}
	delay = deadline_timeval(next_turn_ms(worker, first, now_ms));
	if (event_add(worker->accept_grace, &delay) < 0)
		close_retired(worker);
}

static void retire_listeners(struct worker *worker)
{
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		listener_retire(&worker->retired[i], &worker->listeners[i]);
	worker->retired_ms = monotonic_coarse_ms();
	worker->retire_at_ms = worker->retired_ms + DRAIN_PENDING_MS;
	on_accept_grace(-1, 0, worker);
}

static void drain(struct worker *worker)
{
	if (worker->draining)
		return;
	worker->draining = worker->handoff.stopped = true;
	retire_listeners(worker);
}

static void stop(struct worker *worker)
{
	struct session *s;

	worker->draining = worker->handoff.stopped = true;
	event_del(worker->accept_grace);
	close_listeners(worker);
	while ((s = TAILQ_FIRST(&worker->env.sessions)))
		session_destroy(s, CLOSE_DRAIN_TIMEOUT);
	tls_home_stop(&worker->tls);
	end_if_drained(worker);
}

void worker_sockets_close(struct worker_sockets *sockets)
{
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		while (sockets->n_listen[i] > 0)
			listener_fds_close(&sockets->listen_fds[i][--sockets->n_listen[i]]);
	}
	marks_close(&sockets->marks);
	pending_unref(TAKE_PTR(sockets->pending));
}

/*
 * Ends the sessions that are pending in maps which are not pinned any more: the kernel half does
 * not tell of these clients any more.
 */
static void end_pending(struct session_env *env)
{
	struct session *s, *next;

	for (s = TAILQ_FIRST(&env->sessions); s && env->joins.n > 0; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (detour_of(s)->join)
			session_destroy(s, CLOSE_CANCELLED);
	}
}

/* Reads the ring of new listeners. Takes over the reference. */
static void replace_callers(struct worker *worker, const struct worker_sockets *sockets)
{
	callers_finish(&worker->callers);
	if (worker->pending != sockets->pending)
		end_pending(&worker->env);
	pending_unref(worker->pending);
	worker->env.pending = worker->pending = sockets->pending;
	if (sockets->ring && sockets->n_listen[TPROXY_INET] > 0)
		callers_start(&worker->callers, &worker->listening, sockets->ring,
			      sockets->listen_fds[TPROXY_INET][0].fd);
}

static void replace_listeners(struct worker *worker, const struct worker_sockets *sockets)
{
	int i;

	retire_listeners(worker);
	marks_close(&worker->env.marks);
	worker->env.marks = sockets->marks;
	worker->listening.lost = false; /* it concerned the old listeners */
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		if (sockets->n_listen[i] > 0)
			listener_init(&worker->listeners[i], &worker->listening,
				      i == TPROXY_INET6 ? AF_INET6 : AF_INET,
				      sockets->listen_fds[i], sockets->n_listen[i]);
	}
	replace_callers(worker, sockets);
}

/* An option of 0 means never. UINT64_MAX / 2 is long enough, and adding the current time to it does
 * not overflow. */
static uint64_t or_never(uint64_t ms)
{
	return ms > 0 ? ms : UINT64_MAX / 2;
}

static void set_keepalive(struct worker *worker, int keepidle_s)
{
	struct session *s;

	if (worker->env.keepidle_s == keepidle_s)
		return;
	worker->env.keepidle_s = keepidle_s;
	TAILQ_FOREACH (s, &worker->env.sessions, entry) {
		if (s->has_keepalive)
			session_set_keepidle(s);
	}
}

/* Queues stay sorted: their order is that of the last activity, not of the expiry. */
static void set_timeouts(struct worker *worker, const struct worker_timeouts *timeouts)
{
	struct session_env *env = &worker->env;

	env->connecting.timeout_ms = or_never(timeouts->connect_ms);
	env->idle.timeout_ms = or_never(timeouts->idle_ms);
	env->half_closed.timeout_ms = or_never(timeouts->half_closed_ms);
	env->marks.error_memory_ms = timeouts->error_memory_ms;
	set_keepalive(worker, (int)(timeouts->keepalive_ms / 1000));
	tick_configure(&worker->tick);
}

/* Takes over the reference. */
static void replace_upstreams(struct worker *worker, struct upstreams *set)
{
	upstreams_unref(worker->env.upstreams);
	worker->env.upstreams = set;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	struct worker_sockets sockets;
	struct worker_timeouts timeouts;
	bool listen, configure, set_upstreams, stopping, draining;
	struct upstreams *upstreams;
	eventfd_t value;

	worker->heartbeats_answered = atomic_load(&worker->heartbeats_sent);
	eventfd_read(worker->wake_fd, &value);
	pthread_mutex_lock(&worker->inbox_lock);
	sockets = worker->inbox.sockets;
	timeouts = worker->inbox.timeouts;
	listen = worker->inbox.listen;
	configure = worker->inbox.configure;
	set_upstreams = worker->inbox.set_upstreams;
	upstreams = TAKE_PTR(worker->inbox.upstreams);
	stopping = worker->inbox.stop;
	draining = worker->inbox.drain;
	worker->inbox.listen = worker->inbox.configure = worker->inbox.set_upstreams = false;
	worker->inbox.sockets = (struct worker_sockets)WORKER_SOCKETS_NULL;
	pthread_mutex_unlock(&worker->inbox_lock);

	handoff_receive(&worker->handoff);
	if (set_upstreams)
		replace_upstreams(worker, upstreams);
	if (listen)
		replace_listeners(worker, &sockets);
	if (configure)
		set_timeouts(worker, &timeouts);
	if (stopping)
		stop(worker);
	else if (draining)
		drain(worker);
	if (worker->handoff.is_bulk)
		end_if_drained(worker);
}

static void init_env(struct worker *worker, const struct worker_config *config)
{
	struct session_env *env = &worker->env;

	env->shared = &worker->shared->sessions;
	env->marks = (struct marks)MARKS_NULL;
	env->pass_mark = config->pass_mark;
	env->spin.owner = &worker->shared->spin_owner;
	env->spin.most_us = config->busy_poll_us;
	env->owner = worker;
	env->defer = defer;
	env->on_end = on_session_end;
	env_init(env);
	env->pump_env.pipes = &worker->pipes;
	env->pump_env.scratch_size = config->buffer_size;
	env->pump_env.scratch = malloc(config->buffer_size);
	env->base = event_base_new();
}

static int init_events(struct worker *worker)
{
	struct event_base *base = worker->env.base;

	worker->wake = event_new(base, worker->wake_fd, EV_READ | EV_PERSIST, on_wake, worker);
	worker->accept_grace = evtimer_new(base, on_accept_grace, worker);
	worker->ended = event_new(base, -1, 0, after_sessions, worker);
	if (!worker->wake || !worker->accept_grace || !worker->ended ||
	    event_add(worker->wake, NULL) < 0)
		return -ENOMEM;
	return 0;
}

int worker_init(struct worker *worker, const struct worker_config *config,
		struct worker_shared *shared, int done_fd)
{
	struct session_env *env = &worker->env;
	int error;

	*worker = (struct worker){
		.shared = shared,
		.done_fd = done_fd,
		.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.listening = { .sessions = env,
			       .limit = &shared->limit,
			       .paused = &shared->paused,
			       .tick = &worker->tick },
		.listeners = { LISTENER_NULL, LISTENER_NULL },
		.retired = { LISTENER_NULL, LISTENER_NULL },
		.callers = CALLERS_NULL,
		.inbox = { .sockets = WORKER_SOCKETS_NULL },
	};
	error = worker->wake_fd < 0 ? errno : ENOMEM;
	pthread_mutex_init(&worker->inbox_lock, NULL);
	pipes_init(&worker->pipes, config->pipe_size ? config->pipes_max : 0, config->pipe_size);
	init_env(worker, config);
	handoff_init(&worker->handoff, env, &worker->tick, worker->wake_fd);
	if (!env->base || !env->pump_env.scratch || worker->wake_fd < 0 ||
	    init_events(worker) < 0 || tls_home_init(&worker->tls, env->base) < 0 ||
	    tick_init(&worker->tick, env) < 0 ||
	    bulk_init(&worker->bulk, env, &worker->handoff) < 0)
		return -error;
	worker->tls.on_end = on_bridge_end;
	worker->tls.owner = worker;
	env->tls = &worker->tls;
	set_timeouts(worker, &config->timeouts);
	return 0;
}

void worker_pair(struct worker *worker, struct worker *bulk)
{
	handoff_pair(&worker->handoff, &bulk->handoff);
	bulk->env.spin.most_us = 0;
	bulk->env.pump_env.pipes = &worker->pipes;
}

static void wake(struct worker *worker)
{
	eventfd_write(worker->wake_fd, 1);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;

	pthread_setname_np(pthread_self(),
			   worker->handoff.is_bulk ? "tproxy-bulk" : "tproxy-worker");
	/* Bulk workers keep the default slice, so that small messages overtake them. */
	if (!worker->handoff.is_bulk)
		slice_shorten();
	worker->failed = spin_loop(&worker->env.spin, worker->env.base) < 0;
	if (worker->failed)
		log_err("a worker cannot wait for events: %m");
	handoff_end(&worker->handoff);
	eventfd_write(worker->done_fd, 1);
	return NULL;
}

int worker_start(struct worker *worker)
{
	int r = pthread_create(&worker->thread, NULL, worker_main, worker);

	worker->started = r == 0;
	return -r;
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

void worker_join(struct worker *worker)
{
	if (worker->started)
		pthread_join(worker->thread, NULL);
	worker->started = false;
}

void worker_finish(struct worker *worker)
{
	close_listeners(worker);
	marks_close(&worker->env.marks);
	pending_unref(worker->pending);
	worker_sockets_close(&worker->inbox.sockets);
	upstreams_unref(worker->inbox.upstreams);
	upstreams_unref(worker->env.upstreams);
	tls_home_finish(&worker->tls);
	resolver_port_free(worker->env.resolver_port);
	free_event(worker->wake);
	free_event(worker->accept_grace);
	free_event(worker->ended);
	tick_finish(&worker->tick);
	bulk_finish(&worker->bulk);
	if (worker->env.base)
		event_base_free(worker->env.base);
	util_closep(&worker->wake_fd);
	pipes_finish(&worker->pipes);
	free(worker->env.pump_env.scratch);
	handoff_finish(&worker->handoff);
	pthread_mutex_destroy(&worker->inbox_lock);
}

void worker_listen(struct worker *worker, const struct worker_sockets *sockets)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker_sockets_close(&worker->inbox.sockets);
	worker->inbox.sockets = *sockets;
	worker->inbox.listen = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	wake(worker);
}

void worker_configure(struct worker *worker, const struct worker_timeouts *timeouts)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker->inbox.timeouts = *timeouts;
	worker->inbox.configure = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	wake(worker);
}

void worker_set_upstreams(struct worker *worker, struct upstreams *set)
{
	pthread_mutex_lock(&worker->inbox_lock);
	upstreams_unref(worker->inbox.upstreams);
	worker->inbox.upstreams = upstreams_ref(set);
	worker->inbox.set_upstreams = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	wake(worker);
}

void worker_drain(struct worker *worker)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker->inbox.drain = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	wake(worker);
}

void worker_stop(struct worker *worker)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker->inbox.stop = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	wake(worker);
}

bool worker_has_lost_listener(struct worker *worker)
{
	return atomic_exchange(&worker->listening.lost, false);
}

bool worker_is_stuck(struct worker *worker)
{
	bool stuck = worker->heartbeats_sent - worker->heartbeats_answered >= MISSING_MAX;

	worker->heartbeats_sent++;
	wake(worker);
	return stuck;
}
