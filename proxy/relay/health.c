// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See health.h. Each check does these steps, every second and when addresses or devices change:
 *
 *   logs     report log files that could not be reopened, and lost lines
 *   rings    renew alive_ns of our rings; make new listeners if another relay has taken one
 *   workers  send heartbeats; while a worker is hung, the entry is not renewed
 *   entry    registration_check(): renew the entry in map_config
 *   repair   make and register new listeners, if other maps are pinned or a listener is lost;
 *            also if a map is another by which the program at our listeners finds clients
 *   state    log the state of the registration if it has changed
 *   observe  read the observed connections while this relay serves (observe.c)
 *
 * While the relay drains or hands over, the entry is not renewed: only the first two steps are
 * done.
 *
 * A problem that lasts is found again by each check. So all messages from "workers" to "state" are
 * subject to one rate limit, except that of a successful repair.
 */
#include "health.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "kernel/local.h"
#include "kernel/pending.h"
#include "kernel/registration.h"
#include "log.h"
#include "logfile.h"
#include "monotonic.h"
#include "observe.h"
#include "relay.h"
#include "report/connlog.h"
#include "upstreams.h"
#include "worker/worker.h"

/* Interval of on_check(), well below TPROXY_STALE_NS. */
#define CHECK_S 1

/*
 * Opens the pins again, makes new listeners, marks and registers them. Needed when listeners were
 * lost, or when other maps are pinned because the programs were unloaded and loaded. Returns false
 * on failure: the old set stays in use, and the caller tries again in a second.
 */
static bool register_again(struct relay *relay)
{
	struct registration before = relay->reg, reg = REGISTRATION_NULL;

	if (registration_open(&reg, relay->options.pin_dir) < 0)
		return false;
	relay->reg = reg;
	if (relay_listen(relay) < 0) {
		registration_close(&relay->reg);
		relay->reg = before;
		return false;
	}
	relay_upstreams_mark(relay);
	registration_close(&before);
	relay->lost_listener = false;
	return true;
}

/* True if the predicate holds for any worker. Calls it for each of them, because it has effects. */
static bool any_worker(struct relay *relay, bool (*predicate)(struct worker *worker))
{
	bool any = false;
	uint32_t i;

	for (i = 0; i < relay->n_workers; i++)
		any |= predicate(&relay->workers[i]);
	return any;
}

/*
 * True if all workers answer heartbeats. A hung worker would still get its share of the clients.
 * The entry is not renewed then, and TPROXY_STALE_NS later connect treats new connections as
 * without a relay.
 */
static bool workers_answer(struct relay *relay)
{
	bool stuck = any_worker(relay, worker_is_stuck);

	if (stuck && !relay->stuck)
		log_err("a worker does not answer: no more new connections until it does");
	else if (!stuck && relay->stuck)
		log_info("all workers answer again");
	relay->stuck = stuck;
	return !stuck;
}

/*
 * Registers again if other maps are pinned or a listener is lost. Returns the new state. Failed
 * attempts before must not suppress the message of success, so it is not subject to the limit of
 * on_check().
 */
static enum registration_state repair(struct relay *relay, enum registration_state state)
{
	static struct log_limit limit; /* for listeners that are lost again and again */

	if (state == REGISTRATION_REPLACED) {
		if (!register_again(relay))
			return REGISTRATION_GONE;
		relay_log_registered(relay, NULL);
		return REGISTRATION_GOOD;
	}
	if (state == REGISTRATION_GOOD && relay->lost_listener) {
		log_warning("%s, making new listeners",
			    relay->ring_lost ? "another relay has taken over pending connections"
					     : "a listening socket is lost");
		if (register_again(relay))
			relay_log_registered(relay, &limit);
	}
	return state;
}

/* Logs the state of the registration if it has changed. */
static void note_state(struct relay *relay, enum registration_state state)
{
	if (state == relay->reg_state)
		return;
	if (state == REGISTRATION_GONE)
		log_warning(
			"nothing is pinned in '%s' any more; running connections go on, new ones come when 'tproxy-load' has run",
			relay->options.pin_dir);
	else if (state == REGISTRATION_DENIED)
		log_warning(
			"no permission to open the pins in '%s' any more: they were unloaded, or 'tproxy-load --relay-group' was given another group; running connections go on",
			relay->options.pin_dir);
	else if (state == REGISTRATION_FAILED)
		log_warning(
			"cannot renew our entry in '%s/map_config': %s, trying again every second",
			relay->options.pin_dir, strerror(-relay->reg.error));
	else if (state == REGISTRATION_UNHEARD)
		log_warning(
			"the programs of '%s' are not attached to our cgroup any more: nothing is redirected here until 'tproxy-load' attaches them (--relay-cgroup)",
			relay->options.pin_dir);
	else if (state == REGISTRATION_OTHER)
		log_info("another relay has registered; running connections go on");
	relay->reg_state = state;
}

/* Checks the registration and the listeners, repairs what it can, and logs each change of state. */
static void check(struct relay *relay)
{
	enum registration_state state = registration_check(&relay->reg);

	relay->lost_listener |= any_worker(relay, worker_has_lost_listener);
	note_state(relay, repair(relay, state));
}

/* Logs if the log's thread could not reopen its file after SIGHUP. */
static void check_log(int fd, const char *name)
{
	const char *path;
	int error = logfile_reopen_error(fd, &path);

	if (error)
		log_warning("cannot open '%s' again: %s, %s goes on where it was", path,
			    strerror(error), name);
}

/* Tells clients that wait that we live. Returns false if we have lost a ring. */
static bool beat(struct relay *relay)
{
	const uint64_t limit_ms =
		dial_limit_ms(&relay->dial_limit, relay->upstreams,
			      relay->options.connect_timeout_ms, monotonic_coarse_ms());

	return pending_heartbeat(relay->pending, limit_ms);
}

/* Runs every second, so its messages are rate limited. */
static void on_check(evutil_socket_t fd, short what, void *arg)
{
	static struct log_limit limit;
	struct relay *relay = arg;

	check_log(STDOUT_FILENO, "stdout");
	check_log(STDERR_FILENO, "stderr");
	connlog_report_lost();
	/* Also while the relay drains: clients may be pending. */
	if (relay->pending && !relay->stuck && !beat(relay))
		relay->ring_lost = relay->lost_listener = true;
	if (relay->draining || relay->handover_until_ms)
		return;
	/* The program attached to our listeners would know no client. */
	if (relay->pending && pending_is_replaced(relay->pending, relay->options.pin_dir))
		relay->lost_listener = true;
	log_limit_begin(&limit);
	if (workers_answer(relay))
		check(relay);
	log_limit_end();
	observe_check(relay, relay->reg_state == REGISTRATION_GOOD ||
				     relay->reg_state == REGISTRATION_FAILED);
}

/* Addresses or devices have changed. Checks now, without waiting for the next second: if one of our
 * addresses has moved to another host, that host must get no connections. */
static void on_local_change(evutil_socket_t fd, short what, void *arg)
{
	local_watched((int)fd);
	on_check(-1, what, arg);
}

int health_init(struct relay *relay)
{
	const struct timeval interval = { .tv_sec = CHECK_S };
	struct event_base *base = relay->base;

	if (relay_add_event(relay, event_new(base, -1, EV_PERSIST, on_check, relay), &interval) < 0)
		return -ENOMEM;
	relay->watch_fd = local_watch();
	if (relay->watch_fd < 0) {
		log_debug("cannot watch for changes of addresses (%s), looking every second",
			  strerror(-relay->watch_fd));
		return 0;
	}
	return relay_add_event(
		relay,
		event_new(base, relay->watch_fd, EV_READ | EV_PERSIST, on_local_change, relay),
		NULL);
}
