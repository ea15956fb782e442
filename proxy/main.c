// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-relay: start, main loop and teardown.
 *
 *   pins       open them and check their ABI version
 *   workers    start the threads
 *   listeners  bind them, each to a port of its own, and mark them
 *   register   write our entry in map_config: from here on connections come
 *   loop       handle events until all workers have ended, or one has failed
 *   teardown   remove the entry, join the threads, free everything
 *
 * Three other files add events to the loop: reload.c (SIGHUP), health.c (the check of every second)
 * and shutdown.c (SIGTERM, SIGINT, SIGQUIT, the supervisor's end). SIGUSR1, which logs the
 * counters, and the end of a worker are handled here.
 *
 * The main thread does not touch connections; the workers do (worker.h). It sends orders to the
 * workers through their inboxes. With --drain-in-background, a supervisor runs above this process
 * (supervisor.h).
 *
 * Exit status: 0 after a drain, 1 after a failure, 2 for a usage error.
 */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "kernel/pending.h"
#include "kernel/registration.h"
#include "log.h"
#include "logfile.h"
#include "options.h"
#include "relay/admin.h"
#include "relay/capacity.h"
#include "relay/check.h"
#include "relay/health.h"
#include "relay/notify.h"
#include "relay/observe.h"
#include "relay/relay.h"
#include "relay/reload.h"
#include "relay/shutdown.h"
#include "relay/supervisor.h"
#include "relay/upstreams.h"
#include "report/stats.h"
#include "sink.h"
#include "util.h"
#include "worker/worker.h"

/* How long to wait at the end for the log to be written. */
#define LOG_STOP_MS 1000
/* libevent's status of a failed assertion (EVENT_ERR_ABORT_ in its log-internal.h). */
#define LIBEVENT_ABORT ((int)0xdeaddead)

static void log_stats(const struct relay *relay)
{
	struct stats sum = {};
	uint32_t i;

	for (i = 0; i < relay->n_workers; i++)
		stats_sum(&sum, &relay->workers[i].env.stats);
	stats_log(&sum, relay_sessions(relay));
}

static void on_usr1(evutil_socket_t sig, short what, void *arg)
{
	log_stats(arg);
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

static int init_events(struct relay *relay)
{
	struct event_base *base = relay->base;

	if (relay_add_event(relay, evsignal_new(base, SIGUSR1, on_usr1, relay), NULL) < 0 ||
	    relay_add_event(
		    relay,
		    event_new(base, relay->done_fd, EV_READ | EV_PERSIST, on_worker_done, relay),
		    NULL) < 0 ||
	    shutdown_init(relay) < 0 || reload_init(relay) < 0 || health_init(relay) < 0)
		return -ENOMEM;
	return 0;
}

/*
 * Blocks (SIG_BLOCK) the signals that have handlers, from the start of the process until the
 * handlers exist, and from before they are removed. A supervisor or a service manager may send them
 * at any time, and by default they end the process. The other threads have them blocked always.
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
	const struct options *options = &relay->options;
	const uint32_t n = options->workers;
	struct worker_config config = {
		.buffer_size = options->buffer_size,
		.pipe_size = options->pipe_size,
		.pipes_max = capacity_pipes(capacity_raise_nofile(), n),
		.busy_poll_us = options->busy_poll_us,
		.pass_mark = options->pass_mark,
		.timeouts = relay_timeouts(relay),
	};
	uint32_t i;
	int r;

	relay->workers = calloc(2 * n, sizeof(*relay->workers));
	if (!relay->workers)
		return -ENOMEM;
	while (relay->n_workers < 2 * n) {
		/* A bulk worker uses the pipes of its partner. */
		if (relay->n_workers == n)
			config.pipes_max = 0;
		r = worker_init(&relay->workers[relay->n_workers++], &config, &relay->shared,
				relay->done_fd);
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
	if (r == 0)
		r = capacity_fit(capacity_raise_nofile(), &relay->options);
	if (r < 0)
		return r;
	r = registration_open(&relay->reg, relay->options.pin_dir);
	if (r < 0)
		return r;
	quota_init(&relay->shared.sessions.per_cgroup);
	sniff_silent_init(&relay->shared.sessions.silent);
	errno = ENOMEM; /* event_base_new() may leave it as it is */
	relay->base = event_base_new();
	if (relay->base)
		relay->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = relay->base && relay->done_fd >= 0 ? init_events(relay) : -errno;
	if (r == 0)
		block_signals(SIG_UNBLOCK);
	if (r == 0)
		r = init_workers(relay);
	if (r == 0)
		r = start_workers(relay);
	if (r < 0) {
		log_err("cannot start workers: %s", strerror(-r));
		return r;
	}
	r = relay_upstreams_set(relay, &relay->options);
	if (r < 0)
		return r;
	relay_set_limits(relay);
	/* Before the registration: from then on the relay before closes its admin socket. */
	r = admin_start(relay);
	return r < 0 ? r : relay_listen(relay);
}

static void relay_finish(struct relay *relay)
{
	uint32_t i;

	block_signals(SIG_BLOCK);
	registration_remove(&relay->reg);
	relay_stop_workers(relay);
	for (i = 0; i < relay->n_workers; i++)
		worker_join(&relay->workers[i]);
	for (i = 0; i < relay->n_workers; i++)
		worker_finish(&relay->workers[i]);
	free(relay->workers);
	relay_upstreams_end(relay);
	if (relay->base)
		quota_finish(&relay->shared.sessions.per_cgroup);
	observe_end(relay);
	admin_end(relay);
	while (relay->n_events > 0)
		event_free(relay->events[--relay->n_events]);
	if (relay->base)
		event_base_free(relay->base);
	util_closep(&relay->done_fd);
	util_closep(&relay->watch_fd);
	util_closep(&relay->supervisor_fd);
	registration_close(&relay->reg);
	pending_release(relay->pending);
	pending_unref(relay->pending);
}

/*
 * libevent's own messages. It carries on after a warning, which is logged at level debug. After an
 * error it ends the process: if there is no descriptor for its signals, for instance.
 */
static void log_libevent(int severity, const char *message)
{
	if (severity >= EVENT_LOG_ERR)
		log_err("libevent: %s", message);
	else if (severity == EVENT_LOG_WARN)
		log_debug("libevent: %s", message);
}

/* libevent's exit after an error: log_libevent()'s line may still be with the log's thread. */
static void end_by_libevent(int status)
{
	logfile_stop(LOG_STOP_MS);
	if (status == LIBEVENT_ABORT)
		abort();
	exit(EXIT_FAILURE);
}

static void finish_options(struct options *options)
{
	relay_upstreams_drop(options);
	options_finish(options);
}

/*
 * The next child starts as a restarted relay does: the configuration file may have changed since
 * the supervisor read it. If it cannot be used, or a file that it names, the child has what the
 * supervisor has read: it serves, where an exit would end the supervisor too.
 */
static void read_options_again(struct relay *relay)
{
	struct options options;

	if (options_parse(relay->argc, relay->argv, &options) != 0) {
		log_warning(
			"the configuration is not valid, using the one of the supervisor's start");
		return;
	}
	if (relay_upstreams_read(&options) < 0) {
		log_warning(
			"a password or certificate cannot be read, using the configuration of the supervisor's start, and what was read then");
		finish_options(&options);
		return;
	}
	finish_options(&relay->options);
	relay->options = options;
	relay_set_log(relay);
}

/* Runs the relay with valid options until it ends. Returns the exit status. */
static int run(struct relay *relay)
{
	int r, status;

	/* Before the fork: children take over the rings of those before them. */
	if (getrandom(&relay->ring_owner, sizeof(relay->ring_owner), 0) !=
	    sizeof(relay->ring_owner)) {
		log_err("cannot read random numbers: %m");
		return EXIT_FAILURE;
	}
	if (relay->options.drain_in_background) {
		if (relay_upstreams_read(&relay->options) < 0)
			return EXIT_FAILURE;
		r = supervisor_run(&relay->inherited, &status);
		if (r)
			return r < 0 ? EXIT_FAILURE : status;
		relay->supervisor_fd = relay->inherited.fd;
		if (relay->inherited.again)
			read_options_again(relay);
	}
	r = relay_init(relay);
	if (r == 0) {
		relay_log_registered(relay, NULL);
		observe_check(relay, /* serves= */ true);
		notify(relay->supervisor_fd, "READY=1");
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
		.admin = { .socket = ADMIN_SOCKET_NULL },
		.done_fd = -1,
		.watch_fd = -1,
		.supervisor_fd = -1,
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
	relay_set_log(&relay);
	if (relay.options.check) {
		r = check_options(&relay.options);
		finish_options(&relay.options);
		return log_answered() < 0 || r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	event_set_log_callback(log_libevent);
	event_set_fatal_callback(end_by_libevent);
	signal(SIGPIPE, SIG_IGN);
	sink_never_wait();
	r = run(&relay);
	finish_options(&relay.options);
	logfile_stop(LOG_STOP_MS);
	return r;
}
