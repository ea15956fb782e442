// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See worker.h. Each pass of the event loop runs the callbacks that are ready: new clients
 * (listener.c), sessions (session.c), the inbox, and the timers below. Bulk transfers run from
 * bulk.c, behind all other events.
 *
 * A worker ends by event_base_loopbreak(), in end_if_drained(): it is draining, has neither
 * listeners nor sessions, and its partner can hand no more sessions to it. A bulk worker therefore
 * ends after its partner.
 */
#include "worker.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "log.h"
#include "monotonic.h"
#include "options.h"
#include "session/session.h"
#include "session/tuning.h"
#include "util.h"
#include "bulk.h"
#include "handoff.h"
#include "slice.h"
#include "tick.h"

/*
 * How long a draining worker goes on accepting. When the registration was removed, connections that
 * connect4 had redirected may still have been in their handshake.
 */
#define DRAIN_ACCEPT_MS 200
/* Intervals at which retired listeners are served: normally, and when no client can be served. */
#define DRAIN_LOOK_MS  5
#define DRAIN_PAUSE_MS 50
/* Heartbeats that a worker may miss before it counts as hung, see worker_is_stuck(). */
#define MISSING_MAX 3
/* How often an inactive session is checked for progress within its timeout, see is_over(). */
#define LOOKS 8
/* How long a client may wait for an acknowledgement while its worker is busy. */
#define UNACKED_NS 1000000
void worker_owe_ack(struct worker *worker, struct session *s)
{
	if (worker->n_unacked++ == 0)
		worker->unacked_ns = monotonic_kernel_ns();
	LIST_INSERT_HEAD(&worker->unacked, s, unacked_entry);
}

void worker_forget_ack(struct worker *worker, struct session *s)
{
	worker->n_unacked--;
	LIST_REMOVE(s, unacked_entry);
}

/* Callback of busypoll.h: sends the acknowledgements that are owed, unless they are recent. */
static void acknowledge(void *arg, bool all)
{
	struct worker *worker = arg;

	if (!all && monotonic_kernel_ns() - worker->unacked_ns < UNACKED_NS)
		return;
	while (!LIST_EMPTY(&worker->unacked))
		session_acknowledge(LIST_FIRST(&worker->unacked));
}

bool worker_reserve_session(struct worker *worker)
{
	struct worker_limit *limit = worker->limit;

	if (atomic_fetch_add_explicit(&limit->sessions, 1, memory_order_relaxed) <
	    atomic_load_explicit(&limit->max, memory_order_relaxed))
		return true;
	atomic_fetch_sub_explicit(&limit->sessions, 1, memory_order_relaxed);
	return false;
}

void worker_release_session(struct worker *worker)
{
	atomic_fetch_sub_explicit(&worker->limit->sessions, 1, memory_order_relaxed);
}

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
	if (worker->draining && !is_listening(worker) && TAILQ_EMPTY(&worker->sessions) &&
	    handoff_close(worker))
		event_base_loopbreak(worker->base);
}

void worker_on_session_end(struct worker *worker)
{
	int i;

	worker_release_session(worker);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		listener_resume(&worker->listeners[i]);
	end_if_drained(worker);
}

static void close_listeners(struct worker *worker)
{
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		listener_finish(&worker->listeners[i]);
		listener_finish(&worker->retired[i]);
	}
}

static void close_retired(struct worker *worker)
{
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		listener_finish(&worker->retired[i]);
	end_if_drained(worker);
}

/*
 * Serves the retired listeners, a few clients at a time. A flood of direct connections to the
 * relay's port must neither delay other sessions nor keep the worker from ending. Clients that wait
 * because of the session limit are served too, until the drain timeout.
 */
static void on_closing(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	bool last = monotonic_coarse_ms() - worker->retired_ms >= DRAIN_ACCEPT_MS;
	enum listener_left first = LISTENER_EMPTY, left;
	struct timeval delay;
	int i;

	busypoll_woke(&worker->busypoll);
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		left = listener_serve_retired(&worker->retired[i], last);
		first = left < first ? left : first;
	}
	if (last && first == LISTENER_EMPTY) {
		close_retired(worker);
		return;
	}
	delay = deadline_timeval(first == LISTENER_MORE	    ? 0
				 : first == LISTENER_PAUSED ? DRAIN_PAUSE_MS
							    : DRAIN_LOOK_MS);
	if (event_add(worker->closing, &delay) < 0)
		close_retired(worker);
}

static void retire_listeners(struct worker *worker)
{
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++)
		listener_retire(&worker->retired[i], &worker->listeners[i]);
	worker->retired_ms = monotonic_coarse_ms();
	on_closing(-1, 0, worker);
}

static void drain(struct worker *worker)
{
	if (worker->draining)
		return;
	worker->draining = true;
	retire_listeners(worker);
}

static void stop(struct worker *worker)
{
	struct session *s;

	worker->draining = true;
	event_del(worker->closing);
	close_listeners(worker);
	while ((s = TAILQ_FIRST(&worker->sessions)))
		session_destroy(s, CLOSE_DRAIN_TIMEOUT);
	end_if_drained(worker);
}

void worker_sockets_close(struct worker_sockets *sockets)
{
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		while (sockets->n_listen[i] > 0)
			util_closep(&sockets->listen_fds[i][--sockets->n_listen[i]]);
	}
	registration_handle_close(&sockets->handle);
}

static void replace_listeners(struct worker *worker, const struct worker_sockets *sockets)
{
	int i;

	retire_listeners(worker);
	registration_handle_close(&worker->handle);
	worker->handle = sockets->handle;
	worker->lost_listener = false; /* it concerned the old listeners */
	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		if (sockets->n_listen[i] > 0)
			listener_init(&worker->listeners[i], worker,
				      i == TPROXY_INET6 ? AF_INET6 : AF_INET,
				      sockets->listen_fds[i], sockets->n_listen[i]);
	}
}

/* An option of 0 means never. UINT64_MAX / 2 is long enough, and adding the current time to it does
 * not overflow. */
static uint64_t or_never(uint64_t ms)
{
	return ms > 0 ? ms : UINT64_MAX / 2;
}

static struct worker_timeouts timeouts_of(const struct options *options)
{
	return (struct worker_timeouts){
		.connect_ms = or_never(options->connect_timeout_ms),
		.idle_ms = or_never(options->idle_timeout_ms),
		.half_closed_ms = or_never(options->half_closed_timeout_ms),
		.error_memory_ms = options->error_memory_ms,
		.keepalive_ms = options->keepalive_ms,
	};
}

static void set_keepalive(struct worker *worker, int keepidle_s)
{
	struct session *s;

	if (worker->keepidle_s == keepidle_s)
		return;
	worker->keepidle_s = keepidle_s;
	TAILQ_FOREACH (s, &worker->sessions, entry) {
		if (s->settled)
			tuning_set_keepidle(s);
	}
}

/* Queues stay sorted: their order is that of the last activity, not of the expiry. */
static void set_timeouts(struct worker *worker, const struct worker_timeouts *timeouts)
{
	worker->connecting.timeout_ms = timeouts->connect_ms;
	worker->idle.timeout_ms = timeouts->idle_ms;
	worker->half_closed.timeout_ms = timeouts->half_closed_ms;
	worker->handle.error_memory_ms = timeouts->error_memory_ms;
	set_keepalive(worker, (int)(timeouts->keepalive_ms / 1000));
	tick_configure(worker);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	struct worker_sockets sockets;
	struct worker_timeouts timeouts;
	bool listen, configure, stopping, draining;
	eventfd_t value;

	worker->answered = atomic_load(&worker->asked);
	eventfd_read(worker->wake_fd, &value);
	pthread_mutex_lock(&worker->inbox_lock);
	sockets = worker->inbox.sockets;
	timeouts = worker->inbox.timeouts;
	listen = worker->inbox.listen;
	configure = worker->inbox.configure;
	stopping = worker->inbox.stop;
	draining = worker->inbox.drain;
	worker->inbox.listen = worker->inbox.configure = false;
	worker->inbox.sockets = (struct worker_sockets)WORKER_SOCKETS_NULL;
	pthread_mutex_unlock(&worker->inbox_lock);

	handoff_receive(worker);
	if (listen)
		replace_listeners(worker, &sockets);
	if (configure)
		set_timeouts(worker, &timeouts);
	if (stopping)
		stop(worker);
	else if (draining)
		drain(worker);
	if (worker->is_bulk)
		end_if_drained(worker);
}

int worker_init(struct worker *worker, const struct options *options, struct worker_limit *limit,
		uint32_t pipes_max, int done_fd)
{
	const struct worker_timeouts timeouts = timeouts_of(options);

	*worker = (struct worker){
		.limit = limit,
		.done_fd = done_fd,
		.pass_mark = options->pass_mark,
		.busypoll = { .turn = &limit->looking, .most_us = options->busy_poll_us },
		.wake_fd = -1,
		.listeners = { LISTENER_NULL, LISTENER_NULL },
		.retired = { LISTENER_NULL, LISTENER_NULL },
		.handle = REGISTRATION_HANDLE_NULL,
		.inbox = { .sockets = WORKER_SOCKETS_NULL },
	};
	pthread_mutex_init(&worker->inbox_lock, NULL);
	TAILQ_INIT(&worker->inbox.sessions);
	TAILQ_INIT(&worker->sessions);
	TAILQ_INIT(&worker->deaf);
	LIST_INIT(&worker->unacked);
	worker->busypoll.debts = &worker->n_unacked;
	worker->busypoll.pay = acknowledge;
	worker->busypoll.pay_arg = worker;
	deadline_queue_init(&worker->connecting);
	deadline_queue_init(&worker->idle);
	deadline_queue_init(&worker->half_closed);
	worker->idle.looks = worker->half_closed.looks = LOOKS;
	set_timeouts(worker, &timeouts);
	pipes_init(&worker->pipes, options->pipe_size ? pipes_max : 0, options->pipe_size);
	worker->tools.pipes = &worker->pipes;
	worker->tools.scratch_size = options->buffer_size;
	worker->tools.scratch = malloc(options->buffer_size);
	worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	worker->base = event_base_new();
	if (!worker->base || !worker->tools.scratch || worker->wake_fd < 0)
		return -ENOMEM;
	worker->wake =
		event_new(worker->base, worker->wake_fd, EV_READ | EV_PERSIST, on_wake, worker);
	worker->closing = evtimer_new(worker->base, on_closing, worker);
	if (!worker->wake || !worker->closing || event_add(worker->wake, NULL) < 0 ||
	    tick_init(worker) < 0 || bulk_init(worker) < 0)
		return -ENOMEM;
	return 0;
}

void worker_pair(struct worker *worker, struct worker *bulk)
{
	worker->partner = bulk;
	bulk->partner = worker;
	bulk->is_bulk = true;
	bulk->busypoll.most_us = 0;
	bulk->tools.pipes = &worker->pipes;
}

void worker_wake(struct worker *worker)
{
	eventfd_write(worker->wake_fd, 1);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;

	pthread_setname_np(pthread_self(), worker->is_bulk ? "tproxy-bulk" : "tproxy-worker");
	/* Bulk workers keep the default slice, so that small messages overtake them. */
	if (!worker->is_bulk)
		slice_shorten();
	worker->failed = busypoll_loop(&worker->busypoll, worker->base) < 0;
	if (worker->failed)
		log_err("a worker cannot wait for events: %m");
	worker->ended = true;
	if (worker->partner && !worker->is_bulk)
		worker_wake(worker->partner);
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
	registration_handle_close(&worker->handle);
	worker_sockets_close(&worker->inbox.sockets);
	free_event(worker->wake);
	free_event(worker->tick);
	free_event(worker->closing);
	free_event(worker->bulk_turn);
	if (worker->base)
		event_base_free(worker->base);
	util_closep(&worker->wake_fd);
	pipes_finish(&worker->pipes);
	free(worker->tools.scratch);
	pthread_mutex_destroy(&worker->inbox_lock);
}

void worker_listen(struct worker *worker, const struct worker_sockets *sockets)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker_sockets_close(&worker->inbox.sockets);
	worker->inbox.sockets = *sockets;
	worker->inbox.listen = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	worker_wake(worker);
}

void worker_configure(struct worker *worker, const struct options *options)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker->inbox.timeouts = timeouts_of(options);
	worker->inbox.configure = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	worker_wake(worker);
}

void worker_drain(struct worker *worker)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker->inbox.drain = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	worker_wake(worker);
}

void worker_stop(struct worker *worker)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker->inbox.stop = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	worker_wake(worker);
}

bool worker_has_lost_listener(struct worker *worker)
{
	return atomic_exchange(&worker->lost_listener, false);
}

bool worker_is_stuck(struct worker *worker)
{
	bool stuck = worker->asked - worker->answered >= MISSING_MAX;

	worker->asked++;
	worker_wake(worker);
	return stuck;
}
