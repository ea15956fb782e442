// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-relay: start, main loop and drain.
 *
 *   pins       open them and check their ABI version
 *   workers    start the threads
 *   listeners  bind them, each to a port of its own, and mark them
 *   register   write our entry in map_config: from here on connections come
 *   loop       handle signals; every second, check workers and registration
 *   drain      remove the entry, serve the backlog, wait for sessions to end or reset them
 *
 * The main thread does not touch connections; the workers do (worker.h). It sends orders to the
 * workers through their inboxes. With --drain-in-background, a guardian runs above this process
 * (guardian.h).
 *
 * Exit status: 0 after a drain, 1 after a failure, 2 for a usage error.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "capacity.h"
#include "check.h"
#include "connlog.h"
#include "guardian.h"
#include "local.h"
#include "log.h"
#include "logfile.h"
#include "notify.h"
#include "options.h"
#include "parse.h"
#include "registration.h"
#include "relay.h"
#include "sink.h"
#include "util.h"
#include "worker.h"

/* How long to wait at the end for the log to be written. */
#define LOG_STOP_MS 1000
/* Interval of on_check(), well below TPROXY_STALE_NS. */
#define CHECK_S 1
/*
 * After the guardian is gone: how long to serve new connections while no other relay has
 * registered, and how often to check. The entry is not renewed meanwhile, so HANDOVER_MS is shorter
 * than TPROXY_STALE_NS.
 */
#define HANDOVER_MS	 3000
#define HANDOVER_LOOK_MS 50

static void set_limits(struct relay *relay)
{
	const struct options *options = &relay->options;

	atomic_store_explicit(&relay->limit.max,
			      capacity_sessions(capacity_raise_nofile(), options),
			      memory_order_relaxed);
	atomic_store_explicit(&relay->limit.per_cgroup.max, options->max_per_cgroup,
			      memory_order_relaxed);
}

static void log_registered(const struct relay *relay)
{
	const struct tproxy_listen *listen = relay->reg.listen;
	union sockaddr_any addr = { .in.sin_family = AF_INET };
	union sockaddr_any addr6 = { .in6.sin6_family = AF_INET6 };
	char text[FORMAT_ENDPOINT_LEN], text6[FORMAT_ENDPOINT_LEN];
	bool has6 = listen[TPROXY_INET6].n_ports > 0;

	memcpy(&addr.in.sin_addr, &listen[TPROXY_INET].addr[12], sizeof(addr.in.sin_addr));
	addr.in.sin_port = htons(listen[TPROXY_INET].ports[0]);
	memcpy(&addr6.in6.sin6_addr, listen[TPROXY_INET6].addr, sizeof(addr6.in6.sin6_addr));
	addr6.in6.sin6_port = htons(listen[TPROXY_INET6].ports[0]);
	log_info("registered pid %u, listening on %s%s%s, workers %u, ports %u", relay->reg.pid,
		 format_endpoint(&addr, text), has6 ? " and " : "",
		 has6 ? format_endpoint(&addr6, text6) : "", relay->options.workers,
		 listen[TPROXY_INET].n_ports + listen[TPROXY_INET6].n_ports);
}

/*
 * Opens the pins again, makes new listeners, marks and registers them. Needed when listeners were
 * lost, or when other maps are pinned because the programs were unloaded and loaded. Returns false
 * on failure: the old set stays in use, and the caller tries again in a second.
 */
static bool register_anew(struct relay *relay)
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
	registration_close(&before);
	relay->lost_listener = false;
	return true;
}

/* True if the predicate holds for any worker. Calls it for each of them, because it has effects. */
static bool any_worker(struct relay *relay, bool (*tells)(struct worker *worker))
{
	bool any = false;
	uint32_t i;

	for (i = 0; i < relay->n_workers; i++)
		any |= tells(&relay->workers[i]);
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

/* Checks the registration and the listeners, repairs what it can, and logs each change of state. */
static void check(struct relay *relay)
{
	static struct log_limit registered;
	enum registration_state state = registration_check(&relay->reg);

	relay->lost_listener |= any_worker(relay, worker_has_lost_listener);
	if (state == REGISTRATION_REPLACED) {
		state = REGISTRATION_GONE;
		if (register_anew(relay)) {
			state = REGISTRATION_GOOD;
			log_limit_end();
			log_registered(relay);
		}
	} else if (state == REGISTRATION_GOOD && relay->lost_listener) {
		log_warning("a listening socket is lost, making new ones");
		if (register_anew(relay)) {
			/* A limit of its own, so that failed attempts before do not suppress it. */
			log_limit_begin(&registered);
			log_registered(relay);
		}
	}
	if (state == relay->reg_state)
		return;
	if (state == REGISTRATION_GONE)
		log_warning(
			"nothing is pinned in '%s' any more; running connections go on, new ones come when 'tproxy-load' has run",
			relay->options.pin_dir);
	else if (state == REGISTRATION_DENIED)
		log_warning(
			"the pins in '%s' are not ours to open any more: they were unloaded, or 'tproxy-load --relay-group' was given another group; running connections go on",
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

/* Logs if the log's thread could not reopen its file after SIGHUP. */
static void check_log(int fd, const char *name)
{
	const char *path;
	int error = logfile_reopen_error(fd, &path);

	if (error)
		log_warning("cannot open '%s' again: %s, %s goes on where it was", path,
			    strerror(error), name);
}

/* Runs every second, so its messages are rate limited. */
static void on_check(evutil_socket_t fd, short what, void *arg)
{
	static struct log_limit limit;
	struct relay *relay = arg;

	check_log(STDOUT_FILENO, "stdout");
	check_log(STDERR_FILENO, "stderr");
	connlog_tell_lost();
	if (relay->draining || relay->handover_until_ms)
		return;
	log_limit_begin(&limit);
	if (workers_answer(relay))
		check(relay);
	log_limit_end();
}

/* Addresses or devices have changed. Checks now, without waiting for the next second: if one of our
 * addresses has moved to another host, that host must get no connections. */
static void on_local_change(evutil_socket_t fd, short what, void *arg)
{
	local_watched((int)fd);
	on_check(-1, what, arg);
}

static uint32_t sessions_now(const struct relay *relay)
{
	return atomic_load_explicit(&relay->limit.sessions, memory_order_relaxed);
}

static void log_stats(const struct relay *relay)
{
	struct stats sum = {};
	uint32_t i;

	for (i = 0; i < relay->n_workers; i++)
		stats_sum(&sum, &relay->workers[i].stats);
	stats_log(&sum, sessions_now(relay));
}

static void on_usr1(evutil_socket_t sig, short what, void *arg)
{
	log_stats(arg);
}

static void set_log(const struct options *options)
{
	log_set_level(options->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	connlog_init(options->connection_log);
}

/* Returns the name of an option that differs and cannot change while the relay runs, or NULL. */
static const char *unchangeable(const struct options *before, const struct options *after)
{
	if (strcmp(before->pin_dir, after->pin_dir) != 0)
		return "pin-dir";
	if (memcmp(before->listen, after->listen, sizeof(before->listen)) != 0)
		return "listen";
	if (before->workers != after->workers)
		return "workers";
	if (before->listeners != after->listeners)
		return "listeners";
	if (before->buffer_size != after->buffer_size)
		return "buffer-size";
	if (before->pipe_size != after->pipe_size)
		return "pipe-size";
	if (before->backlog != after->backlog)
		return "backlog";
	if (before->busy_poll_us != after->busy_poll_us)
		return "busy-poll";
	if (before->drain_in_background != after->drain_in_background)
		return "drain-in-background";
	if (before->pass_mark != after->pass_mark)
		return "pass-mark";
	return NULL;
}

/* Reads the command line and the configuration file again. Applies all of it, or nothing. */
static void reload(struct relay *relay)
{
	struct options options;
	const char *name;
	uint32_t i;

	if (options_parse(relay->argc, relay->argv, &options) != 0) {
		log_warning("the configuration is not valid, going on with the one before");
		return;
	}
	/* The default may differ now, because it depends on the CPU affinity. */
	if (!options.workers_given && !relay->options.workers_given)
		options.workers = relay->options.workers;
	name = unchangeable(&relay->options, &options);
	if (name) {
		log_warning(
			"'%s' cannot change while the relay runs, going on with the configuration before; restart it",
			name);
		return;
	}
	relay->options = options;
	set_log(&options);
	set_limits(relay);
	for (i = 0; i < relay->n_workers; i++)
		worker_configure(&relay->workers[i], &options);
	log_info("read the configuration again");
}

static void on_hup(evutil_socket_t sig, short what, void *arg)
{
	struct relay *relay = arg;

	notify(relay->guardian_fd, "RELOADING=1");
	logfile_reopen();
	reload(relay);
	notify(relay->guardian_fd, "READY=1");
}

static void stop_workers(struct relay *relay)
{
	uint32_t i;

	for (i = 0; i < relay->n_workers; i++)
		worker_stop(&relay->workers[i]);
}

static void on_drain_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;

	log_warning("drain timeout: resetting %u connections", sessions_now(relay));
	stop_workers(relay);
}

/* Removes the registration and starts to drain. terminate() may call it again, to set a deadline.
 */
static void drain(struct relay *relay, const char *why, const char *how_long)
{
	uint32_t i;

	if (relay->draining) {
		log_info("%s: draining %u connections%s%s", why, sessions_now(relay),
			 *how_long ? " for at most " : "", how_long);
		return;
	}
	relay->draining = true;
	log_info("%s: unregistered, draining %u connections%s%s", why, sessions_now(relay),
		 *how_long ? " for at most " : "", how_long);
	registration_remove(&relay->reg);
	if (relay->guardian_fd >= 0)
		guardian_hold(relay->guardian_fd, NULL, 0);
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
	notify(relay->guardian_fd, "STOPPING=1");
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
	log_info("%s again: resetting %u connections", strsignal((int)sig), sessions_now(relay));
	stop_workers(relay);
}

/* Drains when another relay has registered, or at handover_until_ms. Runs every 50 ms until then.
 */
static void on_handover_look(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval look = { .tv_usec = HANDOVER_LOOK_MS * 1000 };
	struct relay *relay = arg;

	if (relay->terminating)
		return;
	if (registration_is_replaced(&relay->reg))
		terminate(relay, "another relay has taken over");
	else if (deadline_now_ms() >= relay->handover_until_ms)
		terminate(relay, "no other relay has taken over");
	else
		event_add(relay->handover_look, &look);
}

/*
 * EOF on the socket pair: the service was stopped, or is being restarted. The two cannot be told
 * apart, so new connections are served until another relay has registered, HANDOVER_MS at most.
 */
static void on_guardian_gone(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;

	event_del(relay->guardian_gone);
	if (relay->terminating)
		return;
	/* Draining since SIGQUIT: another relay may have taken over long ago. */
	if (relay->draining) {
		terminate(relay, "the service was stopped");
		return;
	}
	relay->handover_until_ms = deadline_now_ms() + HANDOVER_MS;
	on_handover_look(-1, 0, relay);
}

/*
 * SIGQUIT: another relay has taken over. Drains without a deadline. STOPPING=1 is not sent: systemd
 * would limit the drain to TimeoutStopSec=.
 */
static void on_quit(evutil_socket_t sig, short what, void *arg)
{
	drain(arg, strsignal((int)sig), "");
}

/* True if the event loop of a worker has failed. It cannot be restarted in place: the relay exits,
 * so that a new one is started. */
static bool has_failed(const struct relay *relay)
{
	uint32_t i;

	for (i = 0; i < relay->n_workers; i++) {
		if (relay->workers[i].failed)
			return true;
	}
	return false;
}

static void on_worker_done(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;
	eventfd_t n;

	if (eventfd_read(fd, &n) == 0)
		relay->n_done += (uint32_t)n;
	if (relay->n_done >= relay->n_workers || has_failed(relay))
		event_base_loopbreak(relay->base);
}

/* Adds an event, which relay_finish() frees. Returns 0 or -ENOMEM; an event of NULL is -ENOMEM. */
static int add_event(struct relay *relay, struct event *event, const struct timeval *timeout)
{
	if (!event)
		return -ENOMEM;
	assert(relay->n_events < ARRAY_SIZE(relay->events));
	relay->events[relay->n_events++] = event;
	return event_add(event, timeout) < 0 ? -ENOMEM : 0;
}

static int init_handover(struct relay *relay)
{
	if (relay->guardian_fd < 0)
		return 0;
	relay->handover_look = evtimer_new(relay->base, on_handover_look, relay);
	relay->guardian_gone = event_new(relay->base, relay->guardian_fd, EV_READ | EV_PERSIST,
					 on_guardian_gone, relay);
	return relay->handover_look ? add_event(relay, relay->guardian_gone, NULL) : -ENOMEM;
}

static int init_events(struct relay *relay)
{
	const struct timeval check = { .tv_sec = CHECK_S };
	struct event_base *base = relay->base;

	relay->drain_timer = evtimer_new(base, on_drain_timeout, relay);
	if (!relay->drain_timer ||
	    add_event(relay, evsignal_new(base, SIGTERM, on_term, relay), NULL) < 0 ||
	    add_event(relay, evsignal_new(base, SIGINT, on_term, relay), NULL) < 0 ||
	    add_event(relay, evsignal_new(base, SIGQUIT, on_quit, relay), NULL) < 0 ||
	    add_event(relay, evsignal_new(base, SIGHUP, on_hup, relay), NULL) < 0 ||
	    add_event(relay, evsignal_new(base, SIGUSR1, on_usr1, relay), NULL) < 0 ||
	    add_event(relay,
		      event_new(base, relay->done_fd, EV_READ | EV_PERSIST, on_worker_done, relay),
		      NULL) < 0 ||
	    add_event(relay, event_new(base, -1, EV_PERSIST, on_check, relay), &check) < 0)
		return -ENOMEM;
	relay->watch_fd = local_watch();
	if (relay->watch_fd < 0) {
		log_debug("cannot watch for changes of addresses (%s), looking every second",
			  strerror(-relay->watch_fd));
		return 0;
	}
	return add_event(
		relay,
		event_new(base, relay->watch_fd, EV_READ | EV_PERSIST, on_local_change, relay),
		NULL);
}

/*
 * Blocks (SIG_BLOCK) the signals that have handlers, from the start of the process until the
 * handlers exist. A guardian or a service manager may send them at any time, and by default they
 * end the process.
 */
static void block_signals(int how)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 };
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	pthread_sigmask(how, &set, NULL);
}

/* Starts the workers with all signals blocked: the main thread's event loop handles signals. */
static int start_workers(struct relay *relay)
{
	sigset_t all, before;
	uint32_t i;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (i = 0; i < relay->n_workers && r == 0; i++)
		r = worker_start(&relay->workers[i]);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static int init_workers(struct relay *relay)
{
	const uint32_t n = relay->options.workers;
	const uint32_t pipes = capacity_pipes(capacity_raise_nofile(), n);
	uint32_t i;
	int r;

	relay->workers = calloc(2 * n, sizeof(*relay->workers));
	if (!relay->workers)
		return -ENOMEM;
	while (relay->n_workers < 2 * n) {
		i = relay->n_workers++;
		r = worker_init(&relay->workers[i], &relay->options, &relay->limit,
				i < n ? pipes : 0, relay->done_fd);
		if (r < 0)
			return r;
	}
	for (i = 0; i < n; i++)
		worker_pair(&relay->workers[i], &relay->workers[n + i]);
	return 0;
}

static int relay_init(struct relay *relay)
{
	int r;

	r = check_mark(&relay->options);
	if (r < 0)
		return r;
	r = registration_open(&relay->reg, relay->options.pin_dir);
	if (r < 0)
		return r;
	quota_init(&relay->limit.per_cgroup);
	set_limits(relay);
	relay->base = event_base_new();
	relay->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = relay->base && relay->done_fd >= 0 ? init_events(relay) : -ENOMEM;
	if (r == 0)
		block_signals(SIG_UNBLOCK);
	if (r == 0)
		r = init_handover(relay);
	if (r == 0)
		r = init_workers(relay);
	if (r == 0)
		r = start_workers(relay);
	if (r < 0) {
		log_err("cannot start workers: %s", strerror(-r));
		return r;
	}
	return relay_listen(relay);
}

static void relay_finish(struct relay *relay)
{
	uint32_t i;

	registration_remove(&relay->reg);
	stop_workers(relay);
	for (i = 0; i < relay->n_workers; i++)
		worker_join(&relay->workers[i]);
	for (i = 0; i < relay->n_workers; i++)
		worker_finish(&relay->workers[i]);
	free(relay->workers);
	if (relay->base)
		quota_finish(&relay->limit.per_cgroup);
	while (relay->n_events > 0)
		event_free(relay->events[--relay->n_events]);
	if (relay->drain_timer)
		event_free(relay->drain_timer);
	if (relay->handover_look)
		event_free(relay->handover_look);
	if (relay->base)
		event_base_free(relay->base);
	util_closep(&relay->done_fd);
	util_closep(&relay->watch_fd);
	util_closep(&relay->guardian_fd);
	registration_close(&relay->reg);
}

/* libevent's own messages, at level debug: libevent carries on after these. */
static void log_libevent(int severity, const char *message)
{
	if (severity >= EVENT_LOG_WARN)
		log_debug("libevent: %s", message);
}

/* Runs the relay with valid options until it ends. Returns the exit status. */
static int run(struct relay *relay)
{
	int r, status;

	if (relay->options.drain_in_background) {
		r = guardian_run(&relay->inherited, &status);
		if (r)
			return r < 0 ? EXIT_FAILURE : status;
		relay->guardian_fd = relay->inherited.fd;
		/* The configuration file may have changed since the guardian read it. */
		if (relay->inherited.again &&
		    options_parse(relay->argc, relay->argv, &relay->options) == 0)
			set_log(&relay->options);
	}
	r = relay_init(relay);
	if (r == 0) {
		log_registered(relay);
		notify(relay->guardian_fd, "READY=1");
		if (event_base_loop(relay->base, 0) < 0) {
			r = -errno;
			log_err("cannot wait for events: %m");
		}
		if (has_failed(relay))
			r = -EIO;
		log_stats(relay);
	}
	relay_finish(relay);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct relay relay = {
		.reg = REGISTRATION_NULL,
		.done_fd = -1,
		.watch_fd = -1,
		.guardian_fd = -1,
		.argc = argc,
		.argv = argv,
	};
	int r;

	sink_init();
	block_signals(SIG_BLOCK);
	log_init("tproxy-relay", LOG_LEVEL_INFO);
	r = options_parse(argc, argv, &relay.options);
	if (r)
		return log_answered() < 0 ? EXIT_FAILURE : r < 0 ? 2 : EXIT_SUCCESS;
	set_log(&relay.options);
	if (relay.options.check) {
		r = check_options(&relay.options);
		return log_answered() < 0 || r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	event_set_log_callback(log_libevent);
	signal(SIGPIPE, SIG_IGN);
	sink_never_wait();
	r = run(&relay);
	logfile_stop(LOG_STOP_MS);
	return r;
}
