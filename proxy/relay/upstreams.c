// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See upstreams.h. A reload makes a complete set before it replaces anything, so that a wrong
 * password file leaves the relay as it was.
 *
 * The resolver exists from the first configuration with a host name, or with [names], to the end.
 * Its thread marks its sockets, so that the kernel half does not redirect them to this relay.
 * struct resolver_marks is what both threads use: the main thread replaces the descriptors when
 * other maps are pinned.
 */
#include "upstreams.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "escape.h"
#include "kernel/marks.h"
#include "kernel/registration.h"
#include "log.h"
#include "options.h"
#include "relay.h"
#include "upstream/checks.h"
#include "upstream/config.h"
#include "upstream/names.h"
#include "upstream/resolver.h"
#include "upstream/tls.h"
#include "upstream/upstream.h"
#include "worker/worker.h"

/* Marks a socket of the resolver. Its thread. */
static int mark_socket(void *data, int fd)
{
	struct resolver_marks *shared = data;
	int r;

	pthread_mutex_lock(&shared->lock);
	r = marks_set_upstream(&shared->marks, fd);
	pthread_mutex_unlock(&shared->lock);
	return r;
}

/* The sockets of active checks are this thread's: their marks need no lock. */
static int mark_checks(struct relay *relay)
{
	struct marks marks;
	int r;

	if (!relay->checks)
		return 0;
	r = registration_marks(&relay->reg, 0, &marks);
	if (r < 0)
		return r;
	marks_close(&relay->check_marks);
	relay->check_marks = marks;
	return 0;
}

int relay_upstreams_mark(struct relay *relay)
{
	struct resolver_marks *shared = &relay->resolver_marks;
	struct marks marks, before;
	int r = mark_checks(relay);

	if (r < 0 || !relay->resolver)
		return r;
	r = registration_marks(&relay->reg, 0, &marks);
	if (r < 0)
		return r;
	pthread_mutex_lock(&shared->lock);
	before = shared->marks;
	shared->marks = marks;
	pthread_mutex_unlock(&shared->lock);
	marks_close(&before);
	return 0;
}

/* True if something is to be resolved: the address of an upstream, or a name in [names]. */
static bool needs_resolver(const struct upstreams_conf *conf)
{
	size_t i;

	for (i = 0; i < conf->n; i++) {
		if (*conf->list[i].host)
			return true;
	}
	return names_count(conf->names) > 0;
}

static int start_resolver(struct relay *relay)
{
	const struct resolver_config config = {
		.mark = mark_socket,
		.mark_data = &relay->resolver_marks,
	};
	int r;

	pthread_mutex_init(&relay->resolver_marks.lock, NULL);
	relay->resolver_marks.marks = (struct marks)MARKS_NULL;
	r = registration_marks(&relay->reg, 0, &relay->resolver_marks.marks);
	if (r < 0)
		return r;
	r = resolver_new(&config, &relay->resolver);
	if (r < 0) {
		log_err("cannot start the resolver: %s", strerror(-r));
		marks_close(&relay->resolver_marks.marks);
	}
	return r;
}

static bool needs_checks(const struct upstreams *set)
{
	size_t i;

	for (i = 0; i < set->n; i++) {
		if (set->list[i]->conf.check_interval_ms > 0)
			return true;
	}
	return false;
}

static void stop_checks(struct relay *relay)
{
	if (!relay->checks)
		return;
	checks_free(relay->checks);
	relay->checks = NULL;
	marks_close(&relay->check_marks);
}

/* Replaces the checks by those of relay->upstreams. Without them, dials alone tell the health. */
static void start_checks(struct relay *relay)
{
	stop_checks(relay);
	if (!needs_checks(relay->upstreams))
		return;
	relay->check_marks = (struct marks)MARKS_NULL;
	relay->checks = checks_new(relay->base, relay->upstreams, &relay->check_marks);
	mark_checks(relay);
}

int relay_upstreams_set(struct relay *relay, struct options *options)
{
	struct upstreams_conf *conf = &options->upstreams;
	struct upstreams *set;
	uint32_t i;
	int r;

	r = upstream_config_read_secrets(conf, options->config);
	if (r == 0 && !relay->resolver && needs_resolver(conf))
		r = start_resolver(relay);
	if (r == 0)
		r = upstreams_new(conf, relay->resolver, relay->upstreams, &set);
	if (r < 0)
		return r;
	upstreams_unref(relay->upstreams);
	relay->upstreams = set;
	for (i = 0; i < relay->n_workers; i++)
		worker_set_upstreams(&relay->workers[i], set);
	start_checks(relay);
	return 0;
}

void relay_upstreams_end(struct relay *relay)
{
	stop_checks(relay);
	upstreams_unref(relay->upstreams);
	relay->upstreams = NULL;
	if (!relay->resolver)
		return;
	resolver_free(relay->resolver);
	relay->resolver = NULL;
	marks_close(&relay->resolver_marks.marks);
	pthread_mutex_destroy(&relay->resolver_marks.lock);
}

static int make_tls(struct upstream_conf *conf, const char *path)
{
	const struct tls_settings settings = {
		.name = conf->tls_name,
		.ca = conf->tls_ca,
		.verify = conf->tls_verify,
	};
	char why[TLS_WHY_LEN];
	int r;

	if (!conf->tls)
		return 0;
	r = tls_context_new(&settings, &conf->tls_made, why);
	if (r < 0)
		log_err("%s:%u: %s: %s", path, conf->tls_line, *conf->tls_ca ? "tls-ca" : "tls",
			why);
	return r;
}

int relay_upstreams_read(struct options *options)
{
	struct upstreams_conf *conf = &options->upstreams;
	int r = upstream_config_read_secrets(conf, options->config), one;
	size_t i;

	for (i = 0; i < conf->n; i++) {
		one = make_tls(&conf->list[i], options->config);
		r = r < 0 ? r : one;
	}
	return r;
}

void relay_upstreams_drop(struct options *options)
{
	struct upstreams_conf *conf = &options->upstreams;
	size_t i;

	for (i = 0; i < conf->n; i++) {
		tls_context_unref(conf->list[i].tls_made);
		conf->list[i].tls_made = NULL;
	}
}

void relay_upstreams_print_owners(const struct options *options)
{
	char shown[ESCAPE_LEN(PATH_MAX)];
	const char *file;
	struct stat st;
	size_t i;

	for (i = 0; i < options->upstreams.n && geteuid() == 0; i++) {
		file = options->upstreams.list[i].password_file;
		if (*file && stat(file, &st) == 0)
			printf("password file '%s' is for uid %u: the relay must run as that "
			       "user, or as root\n",
			       escape_text(file, strlen(file), shown, sizeof(shown)), st.st_uid);
	}
}
