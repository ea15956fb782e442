// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The thread of a resolver, see resolver.h, from its start to its end: it asks c-ares for the names
 * that are wanted (resolved.h), and waits.
 *
 * The lock is never held during a call of c-ares, whose callback takes it.
 *
 * Channels of c-ares exist while there are questions: one looks up /etc/hosts, at once and for both
 * families, two ask name servers, for each family by itself. New ones read the files of the system.
 */
#include <ares.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "host_name.h"
#include "monotonic.h"
#include "resolved.h"
#include "resolver.h"
#include "util.h"

/* How often each server is asked. Each try takes twice as long as the one before. */
#define TRIES 3

/* Callback of c-ares: what it waits for on a socket has changed. */
static void on_socket(void *data, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = data;
	nfds_t i;

	for (i = 0; i < r->n_sockets && r->sockets[i].fd != fd; i++)
		;
	if (!readable && !writable) {
		if (i < r->n_sockets)
			r->sockets[i] = r->sockets[--r->n_sockets];
		return;
	}
	/* Without room the query ends by its timeout. */
	if (i == RESOLVER_SOCKETS_MAX)
		return;
	if (i == r->n_sockets)
		r->n_sockets++;
	r->sockets[i] = (struct pollfd){
		.fd = fd,
		.events = (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0)),
	};
}

/* Callback of c-ares: a socket was made, and is not connected yet. */
static int on_new_socket(ares_socket_t fd, int type, void *data)
{
	struct resolver *r = data;

	return r->config.mark && r->config.mark(r->config.mark_data, fd) < 0 ? -1 : 0;
}

/* lookups: "f" looks up /etc/hosts, "b" asks name servers. */
static int open_channel(struct resolver *r, char *lookups, ares_channel *ret_channel)
{
	struct ares_options options = {
		.timeout = r->config.timeout_ms ? r->config.timeout_ms : RESOLVER_TRY_MS,
		.tries = TRIES,
		.sock_state_cb = on_socket,
		.sock_state_cb_data = r,
		.lookups = lookups,
	};
	int status = ares_init_options(ret_channel, &options,
				       ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
					       ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS);

	if (status != ARES_SUCCESS) {
		*ret_channel = NULL;
		return status;
	}
	ares_set_socket_configure_callback(*ret_channel, on_new_socket, r);
	if (r->servers)
		status = ares_set_servers_ports_csv(*ret_channel, r->servers);
	if (status != ARES_SUCCESS)
		ares_destroy(TAKE_PTR(*ret_channel));
	return status;
}

/* Opens those that are needed for a name, if they are not open. */
static int open_channels(struct resolver *r, enum resolver_channel servers)
{
	char file_only[] = "f", servers_only[] = "b";
	int status = ARES_SUCCESS;

	if (!r->channels[RESOLVER_FILE])
		status = open_channel(r, file_only, &r->channels[RESOLVER_FILE]);
	if (status == ARES_SUCCESS && !r->channels[servers])
		status = open_channel(r, servers_only, &r->channels[servers]);
	return status;
}

static void close_channels(struct resolver *r)
{
	size_t i;

	for (i = 0; i < _RESOLVER_CHANNEL_MAX; i++) {
		if (r->channels[i])
			ares_destroy(TAKE_PTR(r->channels[i]));
	}
	r->n_sockets = 0;
}

/*
 * Moves added names whose time has come to the wanted ones, and has those settle that have waited
 * for the second family. Returns when the next one is due.
 */
static uint64_t want_due(struct resolver *r, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;
	struct resolved *e;
	uint32_t i;

	for (i = 0; i < RESOLVER_BUCKETS; i++) {
		LIST_FOREACH (e, &r->buckets[i], bucket_entry) {
			if (e->settle_ms && e->settle_ms <= now_ms)
				resolved_settle(e);
			if (e->settle_ms && e->settle_ms < next_ms)
				next_ms = e->settle_ms;
			if (!e->added || e->wanted || e->answer)
				continue;
			if (e->due_ms <= now_ms)
				resolved_want(r, e);
			else if (e->due_ms < next_ms)
				next_ms = e->due_ms;
		}
	}
	return next_ms;
}

static struct resolved *take_wanted(struct resolver *r)
{
	struct resolved *e;

	pthread_mutex_lock(&r->lock);
	do {
		e = TAILQ_FIRST(&r->wanted);
		if (e)
			TAILQ_REMOVE(&r->wanted, e, wanted_entry);
	} while (e && !resolved_begin(r, e));
	pthread_mutex_unlock(&r->lock);
	return e;
}

static void take_answer(struct resolved *e, int family, int status, struct ares_addrinfo *info)
{
	struct resolver *r = e->resolver;

	pthread_mutex_lock(&r->lock);
	resolved_note(r, e, family, status, info);
	pthread_mutex_unlock(&r->lock);
	if (info)
		ares_freeaddrinfo(info);
}

/* Callbacks of c-ares. They may be called from within ares_getaddrinfo(). */

static void on_inet(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	take_answer(arg, AF_INET, status, info);
}

static void on_inet6(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	take_answer(arg, AF_INET6, status, info);
}

static void ask(ares_channel channel, struct resolved *e, const char *name, int family,
		ares_addrinfo_callback fn)
{
	/* c-ares sorts by connecting sockets, which it would not give to on_new_socket(). */
	const struct ares_addrinfo_hints hints = {
		.ai_family = family,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = ARES_AI_NOSORT,
	};

	ares_getaddrinfo(channel, name, NULL, &hints, fn, e);
}

/* A name that the file has in one family is not asked of the servers in the other one. */
static void on_file(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct resolved *e = arg;
	char name[HOST_NAME_LEN + 1];
	ares_channel channel;
	bool is_whole;

	if (status == ARES_SUCCESS) {
		take_answer(e, AF_UNSPEC, status, info);
		return;
	}
	if (info)
		ares_freeaddrinfo(info);
	channel = e->resolver->channels[e->servers];
	/* A client's name with a dot is whole: no search domain (resolv.conf(5)) may answer for it.
	 */
	is_whole = e->servers == RESOLVER_CLIENTS && strchr(e->host, '.');
	snprintf(name, sizeof(name), "%s%s", e->host, is_whole ? "." : "");
	ask(channel, e, name, AF_INET, on_inet);
	ask(channel, e, name, AF_INET6, on_inet6);
}

static void ask_wanted(struct resolver *r)
{
	struct resolved *e;
	int status;

	while ((e = take_wanted(r))) {
		status = open_channels(r, e->servers);
		if (status == ARES_SUCCESS)
			ask(r->channels[RESOLVER_FILE], e, e->host, AF_UNSPEC, on_file);
		else
			take_answer(e, AF_UNSPEC, status, NULL);
	}
	if (r->n_asking == 0)
		close_channels(r);
}

/* Returns when c-ares has to be called again, in ms, or UINT64_MAX. */
static uint64_t channels_wait_ms(struct resolver *r)
{
	struct timeval buf, *wait;
	uint64_t ms = UINT64_MAX;
	size_t i;

	for (i = 0; i < _RESOLVER_CHANNEL_MAX; i++) {
		wait = r->channels[i] ? ares_timeout(r->channels[i], NULL, &buf) : NULL;
		if (wait && (uint64_t)wait->tv_sec * 1000 + (uint64_t)wait->tv_usec / 1000 < ms)
			ms = (uint64_t)wait->tv_sec * 1000 + (uint64_t)wait->tv_usec / 1000 + 1;
	}
	return ms;
}

/* A channel ignores a socket that is not its own. */
static void process(struct resolver *r, ares_socket_t readable, ares_socket_t writable)
{
	size_t i;

	for (i = 0; i < _RESOLVER_CHANNEL_MAX; i++) {
		if (r->channels[i])
			ares_process_fd(r->channels[i], readable, writable);
	}
}

static int wait_ms(struct resolver *r, uint64_t due_ms)
{
	const uint64_t now_ms = monotonic_coarse_ms();
	const uint64_t channels_ms = channels_wait_ms(r);
	uint64_t ms = due_ms == UINT64_MAX ? due_ms : due_ms > now_ms ? due_ms - now_ms : 0;

	if (channels_ms < ms)
		ms = channels_ms;
	return ms == UINT64_MAX ? -1 : ms < INT_MAX ? (int)ms : INT_MAX;
}

/* Waits for sockets, for the next name that is due, or for resolver::wake_fd. */
static void wait_and_process(struct resolver *r, uint64_t due_ms)
{
	struct pollfd fds[RESOLVER_SOCKETS_MAX + 1];
	const nfds_t n = r->n_sockets;
	eventfd_t value;
	nfds_t i;

	memcpy(fds, r->sockets, n * sizeof(fds[0]));
	fds[n] = (struct pollfd){ .fd = r->wake_fd, .events = POLLIN };
	if (poll(fds, n + 1, wait_ms(r, due_ms)) < 0)
		return;
	if (fds[n].revents)
		eventfd_read(r->wake_fd, &value);
	for (i = 0; i < n; i++) {
		if (fds[i].revents)
			process(r, fds[i].revents & ~POLLOUT ? fds[i].fd : ARES_SOCKET_BAD,
				fds[i].revents & ~POLLIN ? fds[i].fd : ARES_SOCKET_BAD);
	}
	/* Timeouts. */
	process(r, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static void *resolver_main(void *arg)
{
	struct resolver *r = arg;
	uint64_t due_ms;
	bool stop;

	pthread_setname_np(pthread_self(), "tproxy-resolver");
	do {
		ask_wanted(r);
		pthread_mutex_lock(&r->lock);
		stop = r->stop;
		due_ms = want_due(r, monotonic_coarse_ms());
		pthread_mutex_unlock(&r->lock);
		if (!stop)
			wait_and_process(r, due_ms);
	} while (!stop);
	/* Calls the callbacks of what is asked. */
	close_channels(r);
	return NULL;
}

static int start(struct resolver *r)
{
	sigset_t all, before;
	int error;

	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&r->thread, NULL, resolver_main, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		ares_library_cleanup();
	return -error;
}

static void destroy(struct resolver *r)
{
	struct resolved *e;
	uint32_t i;

	for (i = 0; i < RESOLVER_BUCKETS; i++) {
		while ((e = LIST_FIRST(&r->buckets[i]))) {
			LIST_REMOVE(e, bucket_entry);
			free(e);
		}
	}
	util_closep(&r->wake_fd);
	pthread_mutex_destroy(&r->lock);
	free(r->servers);
	free(r);
}

int resolver_new(const struct resolver_config *config, struct resolver **ret_resolver)
{
	struct resolver *r = calloc(1, sizeof(*r));
	int error;

	if (!r)
		return -ENOMEM;
	r->config = *config;
	pthread_mutex_init(&r->lock, NULL);
	TAILQ_INIT(&r->wanted);
	TAILQ_INIT(&r->remembered);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = r->wake_fd < 0 ? -errno : 0;
	if (config->servers && !(r->servers = strdup(config->servers)))
		error = -ENOMEM;
	if (!error)
		error = start(r);
	if (error) {
		destroy(r);
		return error;
	}
	*ret_resolver = r;
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	resolver_wake(r->wake_fd);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	ares_library_cleanup();
	destroy(r);
}
