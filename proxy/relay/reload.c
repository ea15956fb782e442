// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See reload.h. On SIGHUP, between RELOADING=1 and READY=1 to the service manager:
 *
 *   logs     have their threads reopen files that were renamed (health.c reports failures)
 *   parse    read the command line and the configuration file into a new struct options
 *   compare  refuse a change of an option that is fixed while the relay runs
 *   make     read passwords and certificates, and make a new set of upstreams of them
 *   apply    set the log and the limits, and send each worker its timeouts and the set
 *
 * The new configuration is applied as a whole or not at all. After an error the relay goes on with
 * the one before.
 */
#include "reload.h"

#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "logfile.h"
#include "notify.h"
#include "options.h"
#include "relay.h"
#include "upstreams.h"
#include "worker/worker.h"

/* Applies the options, and takes over what they own. Returns false if nothing was applied. */
static bool apply(struct relay *relay, struct options *options)
{
	struct worker_timeouts timeouts;
	const char *name;
	uint32_t i;

	/* The default may differ now, because it depends on the CPU affinity. */
	if (!options->workers_given && !relay->options.workers_given)
		options->workers = relay->options.workers;
	name = options_changed(&relay->options, options);
	if (name) {
		log_warning(
			"'%s' cannot change while the relay runs, going on with the configuration before; restart it",
			name);
		return false;
	}
	if (relay_upstreams_set(relay, options) < 0) {
		log_warning("going on with the configuration before");
		return false;
	}
	options_finish(&relay->options);
	relay->options = *options;
	relay_set_log(relay);
	relay_set_limits(relay);
	timeouts = relay_timeouts(relay);
	for (i = 0; i < relay->n_workers; i++)
		worker_configure(&relay->workers[i], &timeouts);
	log_info("read the configuration again");
	return true;
}

/* Reads the command line and the configuration file again. Applies all of it, or nothing. */
static void reload(struct relay *relay)
{
	struct options options;

	if (options_parse(relay->argc, relay->argv, &options) != 0) {
		log_warning("the configuration is not valid, going on with the one before");
		return;
	}
	if (!apply(relay, &options))
		options_finish(&options);
}

static void on_hup(evutil_socket_t sig, short what, void *arg)
{
	struct relay *relay = arg;

	notify(relay->supervisor_fd, "RELOADING=1");
	logfile_reopen();
	reload(relay);
	notify(relay->supervisor_fd, "READY=1");
}

int reload_init(struct relay *relay)
{
	return relay_add_event(relay, evsignal_new(relay->base, SIGHUP, on_hup, relay), NULL);
}
