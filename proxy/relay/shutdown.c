// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See shutdown.h. The relay ends in up to three steps:
 *
 *   hand-over    the supervisor is gone: serve new connections until another relay has registered
 *   drain        remove the entry, serve the backlog and the running sessions
 *   terminate    drain with --drain-timeout as the deadline, then reset the sessions
 *
 *   SIGTERM, SIGINT      terminate; the second one resets all sessions at once
 *   SIGQUIT              drain without a deadline
 *   the supervisor ends  hand-over for HANDOVER_MS at most, then terminate; terminate at once if
 *                        the relay drains already
 *
 * The state is relay::handover_until_ms, draining and terminating; no step is taken back. The main
 * loop ends when all workers have ended (main.c).
 */
#include "shutdown.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "admin.h"
#include "supervisor.h"
#include "kernel/registration.h"
#include "log.h"
#include "monotonic.h"
#include "notify.h"
#include "observe.h"
#include "parse.h"
#include "relay.h"
#include "worker/worker.h"

/*
 * After the supervisor is gone: how long to serve new connections while no other relay has
 * registered, and how often to check. The entry is not renewed meanwhile, so HANDOVER_MS is shorter
 * than TPROXY_STALE_NS.
 */
#define HANDOVER_MS	 3000
#define HANDOVER_POLL_MS 50

static void on_drain_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;

	log_warning("drain timeout: resetting %u connections", relay_sessions(relay));
	relay_stop_workers(relay);
}

/* Removes the registration and starts to drain. terminate() may call it again, to set a deadline.
 */
static void drain(struct relay *relay, const char *why, const char *how_long)
{
	uint32_t i;

	if (relay->draining) {
		log_info("%s: draining %u connections%s%s", why, relay_sessions(relay),
			 *how_long ? " for at most " : "", how_long);
		return;
	}
	relay->draining = true;
	log_info("%s: unregistered, draining %u connections%s%s", why, relay_sessions(relay),
		 *how_long ? " for at most " : "", how_long);
	registration_remove(&relay->reg);
	observe_end(relay);
	admin_end(relay);
	if (relay->supervisor_fd >= 0)
		supervisor_hold(relay->supervisor_fd, NULL, 0);
	for (i = 0; i < relay->n_workers; i++)
		worker_drain(&relay->workers[i]);
}

/* Drains with --drain-timeout as its deadline. */
static void terminate(struct relay *relay, const char *why)
{
	const uint64_t ms = relay->options.drain_timeout_ms;
	const struct timeval timeout = { .tv_sec = (time_t)(ms / 1000),
					 .tv_usec = (suseconds_t)(ms % 1000 * 1000) };
	char text[FORMAT_DURATION_LEN];

	relay->terminating = true;
	notify(relay->supervisor_fd, "STOPPING=1");
	drain(relay, why, ms > 0 ? format_duration_ms(ms, text) : "");
	if (ms > 0)
		event_add(relay->drain_timer, &timeout);
}

/* The first SIGTERM or SIGINT drains; the second one resets all sessions. */
static void on_term(evutil_socket_t sig, short what, void *arg)
{
	struct relay *relay = arg;

	if (!relay->terminating) {
		terminate(relay, strsignal((int)sig));
		return;
	}
	log_info("%s again: resetting %u connections", strsignal((int)sig), relay_sessions(relay));
	relay_stop_workers(relay);
}

/* Drains when another relay has registered, or at handover_until_ms. Runs every 50 ms until then.
 */
static void on_handover_poll(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval interval = { .tv_usec = HANDOVER_POLL_MS * 1000 };
	struct relay *relay = arg;

	if (relay->terminating)
		return;
	if (registration_is_replaced(&relay->reg))
		terminate(relay, "another relay has taken over");
	else if (monotonic_coarse_ms() >= relay->handover_until_ms)
		terminate(relay, "no other relay has taken over");
	else
		event_add(relay->handover_poll, &interval);
}

/*
 * EOF on the socket pair: the service was stopped, or is being restarted. The two cannot be told
 * apart, so new connections are served until another relay has registered, HANDOVER_MS at most.
 */
static void on_supervisor_gone(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;

	event_del(relay->supervisor_gone);
	if (relay->terminating)
		return;
	/* Draining since SIGQUIT: another relay may have taken over long ago. */
	if (relay->draining) {
		terminate(relay, "the service was stopped");
		return;
	}
	relay->handover_until_ms = monotonic_coarse_ms() + HANDOVER_MS;
	on_handover_poll(-1, 0, relay);
}

/*
 * SIGQUIT: another relay has taken over. Drains without a deadline. STOPPING=1 is not sent: systemd
 * would limit the drain to TimeoutStopSec=.
 */
static void on_quit(evutil_socket_t sig, short what, void *arg)
{
	drain(arg, strsignal((int)sig), "");
}

static int init_handover(struct relay *relay)
{
	if (relay->supervisor_fd < 0)
		return 0;
	relay->handover_poll = evtimer_new(relay->base, on_handover_poll, relay);
	if (relay_own_event(relay, relay->handover_poll) < 0)
		return -ENOMEM;
	relay->supervisor_gone = event_new(relay->base, relay->supervisor_fd, EV_READ | EV_PERSIST,
					   on_supervisor_gone, relay);
	return relay_add_event(relay, relay->supervisor_gone, NULL);
}

int shutdown_init(struct relay *relay)
{
	struct event_base *base = relay->base;

	relay->drain_timer = evtimer_new(base, on_drain_timeout, relay);
	if (relay_own_event(relay, relay->drain_timer) < 0 ||
	    relay_add_event(relay, evsignal_new(base, SIGTERM, on_term, relay), NULL) < 0 ||
	    relay_add_event(relay, evsignal_new(base, SIGINT, on_term, relay), NULL) < 0 ||
	    relay_add_event(relay, evsignal_new(base, SIGQUIT, on_quit, relay), NULL) < 0)
		return -ENOMEM;
	return init_handover(relay);
}
