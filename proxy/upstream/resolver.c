// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See resolver.h. Each name has an entry (struct resolved), which is the same for names that were
 * added and for those that are only remembered. An entry that must be asked for is on the list
 * "wanted"; the thread takes it from there, and asks c-ares.
 *
 * resolver::lock protects all entries and questions. It is never held during a call of c-ares,
 * whose callback takes it. An entry that is being asked for is not freed.
 *
 * The channel of c-ares exists while there are questions. Each new one reads the files of the
 * system.
 */
#include "resolver.h"

#include <ares.h>
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "log.h"
#include "monotonic.h"
#include "server_address.h"
#include "util.h"

#define TTL_LEAST_MS 5000
#define TTL_MOST_MS  (3600 * 1000)
#define RETRY_MS     1000
/* Limits of the doubled interval after failures: with an old answer, and without one. */
#define RETRY_MOST_MS  60000
#define RETRY_FIRST_MS 5000
/* Of one query, and how often each server is asked. The second try takes twice as long. */
#define TIMEOUT_MS 2000
#define TRIES	   2
#define BUCKETS	   256
/* Sockets of c-ares: one of UDP for each server, and of TCP for long answers. */
#define SOCKETS_MAX 32

TAILQ_HEAD(question_list, resolver_question);

/* A name. */
struct resolved {
	LIST_ENTRY(resolved) bucket_entry;
	TAILQ_ENTRY(resolved) wanted_entry;	/* resolver::wanted, if wanted */
	TAILQ_ENTRY(resolved) remembered_entry; /* resolver::remembered, if added == 0 */
	struct resolver *resolver;
	uint32_t added; /* calls of resolver_add() */
	bool wanted, asking;
	bool failing;  /* the last question has failed */
	bool answered; /* there was an answer, or a failure */
	int error;     /* of the last question: 0 or -errno */
	uint64_t answered_ms, due_ms, retry_ms;
	size_t n;
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
	struct question_list questions; /* that wait for the answer */
	char host[];
};

struct resolver_question {
	TAILQ_ENTRY(resolver_question) entry; /* resolved::questions or resolver_port::answers */
	struct question_list *list;
	struct resolver_port *port;
	resolver_answer_fn fn;
	void *data;
	int error;
	size_t n;
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
};

struct resolver_port {
	LIST_ENTRY(resolver_port) port_entry; /* resolver::ports */
	struct resolver *resolver;
	struct event *event;
	int wake_fd; /* eventfd: written when there are answers */
	struct question_list answers;
};

struct resolver {
	struct resolver_config config;
	char *servers;
	pthread_t thread;
	int wake_fd; /* eventfd */
	pthread_mutex_t lock;
	bool stop;
	LIST_HEAD(, resolved) buckets[BUCKETS];
	TAILQ_HEAD(, resolved) wanted, remembered; /* the oldest first */
	uint32_t n_remembered;
	LIST_HEAD(, resolver_port) ports;
	/* Of the thread: */
	ares_channel channel; /* NULL: nothing is asked */
	uint32_t n_asking;
	struct pollfd sockets[SOCKETS_MAX];
	nfds_t n_sockets;
};

static void wake(int fd)
{
	eventfd_write(fd, 1);
}

static uint32_t bucket_of(const char *host)
{
	uint32_t hash = 2166136261;

	for (; *host; host++)
		hash = (hash ^ (uint8_t)*host) * 16777619;
	return hash % BUCKETS;
}

/* The rest up to the callbacks of c-ares runs under the lock. */

static void want(struct resolver *r, struct resolved *e)
{
	if (e->wanted || e->asking)
		return;
	e->wanted = true;
	TAILQ_INSERT_TAIL(&r->wanted, e, wanted_entry);
	wake(r->wake_fd);
}

static void stop_remembering(struct resolver *r, struct resolved *e)
{
	TAILQ_REMOVE(&r->remembered, e, remembered_entry);
	r->n_remembered--;
}

/* Makes room for one more name: frees those that were remembered first and are not in use. */
static void forget_some(struct resolver *r)
{
	struct resolved *e, *next;

	for (e = TAILQ_FIRST(&r->remembered); e && r->n_remembered >= RESOLVER_REMEMBERED_MAX;
	     e = next) {
		next = TAILQ_NEXT(e, remembered_entry);
		if (e->wanted || e->asking || !TAILQ_EMPTY(&e->questions))
			continue;
		stop_remembering(r, e);
		LIST_REMOVE(e, bucket_entry);
		free(e);
	}
}

static void remember(struct resolver *r, struct resolved *e)
{
	forget_some(r);
	TAILQ_INSERT_TAIL(&r->remembered, e, remembered_entry);
	r->n_remembered++;
}

/* Returns the entry of host, which it creates if need be, or NULL if memory is short. */
static struct resolved *entry_of(struct resolver *r, const char *host)
{
	const uint32_t bucket = bucket_of(host);
	struct resolved *e;

	LIST_FOREACH (e, &r->buckets[bucket], bucket_entry) {
		if (strcmp(e->host, host) == 0)
			return e;
	}
	e = calloc(1, sizeof(*e) + strlen(host) + 1);
	if (!e)
		return NULL;
	strcpy(e->host, host);
	e->resolver = r;
	TAILQ_INIT(&e->questions);
	LIST_INSERT_HEAD(&r->buckets[bucket], e, bucket_entry);
	remember(r, e);
	return e;
}

const char *resolver_error_text(int error)
{
	switch (error) {
	case -ENOENT:
		return "there is no such name, or it has no address";
	case -ETIMEDOUT:
		return "the name servers do not answer";
	case -ECONNREFUSED:
		return "the name servers cannot be reached, or give no answer";
	case -EIO:
		return "the name servers have failed";
	default:
		return strerror(-error);
	}
}

/* Gives a question the answer that is known, and hands it to its port. */
static void answer(struct resolved *e, struct resolver_question *q)
{
	q->error = e->n ? 0 : e->error;
	q->n = e->n;
	memcpy(q->addresses, e->addresses, e->n * sizeof(e->addresses[0]));
	q->list = &q->port->answers;
	TAILQ_INSERT_TAIL(q->list, q, entry);
	wake(q->port->wake_fd);
}

static void answer_all(struct resolved *e)
{
	struct resolver_question *q;

	while ((q = TAILQ_FIRST(&e->questions))) {
		TAILQ_REMOVE(&e->questions, q, entry);
		answer(e, q);
	}
}

static void note_failure(struct resolver *r, struct resolved *e, int error)
{
	const uint64_t most = e->n ? RETRY_MOST_MS : RETRY_FIRST_MS;
	const uint64_t first = r->config.retry_ms ? r->config.retry_ms : RETRY_MS;

	if (e->added && !e->failing)
		log_warning("cannot resolve \"%s\": %s%s", e->host, resolver_error_text(error),
			    e->n ? "; its last addresses stay in use" : "");
	e->retry_ms = !e->failing ? first : e->retry_ms * 2 < most ? e->retry_ms * 2 : most;
	e->due_ms = monotonic_coarse_ms() + e->retry_ms;
	e->failing = true;
	/* The addresses of a name that is only remembered are valid by their TTL, and no longer. */
	if (!e->added)
		e->n = 0;
	e->error = error;
}

/* Copies the addresses of both families in turn, IPv6 first (RFC 8305, section 4). */
static size_t copy_addresses(const struct ares_addrinfo *info,
			     union sockaddr_any ret[RESOLVER_ADDRESSES_MAX])
{
	const struct ares_addrinfo_node *node, *next[2] = { info->nodes, info->nodes };
	static const int families[] = { AF_INET6, AF_INET };
	size_t n = 0;
	int i, none = 0;

	for (i = 0; none < 2 && n < RESOLVER_ADDRESSES_MAX; i = !i) {
		for (node = next[i]; node && node->ai_family != families[i]; node = node->ai_next)
			;
		next[i] = node ? node->ai_next : NULL;
		none = node ? 0 : none + 1;
		if (!node || node->ai_addrlen > sizeof(ret[n]))
			continue;
		memset(&ret[n], 0, sizeof(ret[n]));
		memcpy(&ret[n], node->ai_addr, node->ai_addrlen);
		ret[n].in.sin_port = 0;
		n += !why_no_server(&ret[n]);
	}
	return n;
}

/* True if both lists have the same addresses, in any order. */
static bool same_addresses(const union sockaddr_any *a, size_t n_a, const union sockaddr_any *b,
			   size_t n_b)
{
	size_t i, j;

	for (i = 0; n_a == n_b && i < n_a; i++) {
		for (j = 0; j < n_b && memcmp(&a[i], &b[j], sizeof(a[i])) != 0; j++)
			;
		if (j == n_b)
			return false;
	}
	return n_a == n_b;
}

static uint64_t ttl_ms(const struct resolver *r, const struct ares_addrinfo *info)
{
	const uint64_t least = r->config.ttl_least_ms ? r->config.ttl_least_ms : TTL_LEAST_MS;
	const uint64_t most = r->config.ttl_most_ms ? r->config.ttl_most_ms : TTL_MOST_MS;
	const struct ares_addrinfo_node *node;
	const struct ares_addrinfo_cname *cname;
	uint64_t ms = most;

	for (node = info->nodes; node; node = node->ai_next) {
		if (node->ai_ttl >= 0 && (uint64_t)node->ai_ttl * 1000 < ms)
			ms = (uint64_t)node->ai_ttl * 1000;
	}
	for (cname = info->cnames; cname; cname = cname->next) {
		if (cname->ttl >= 0 && (uint64_t)cname->ttl * 1000 < ms)
			ms = (uint64_t)cname->ttl * 1000;
	}
	return ms < least ? least : ms;
}

static void note_answer(struct resolver *r, struct resolved *e, const struct ares_addrinfo *info)
{
	union sockaddr_any found[RESOLVER_ADDRESSES_MAX];
	const size_t n = copy_addresses(info, found);

	if (n == 0) {
		note_failure(r, e, -ENOENT);
		return;
	}
	if (e->added && e->failing)
		log_info("\"%s\" can be resolved again", e->host);
	/* Many name servers turn the order with each answer. */
	if (!same_addresses(found, n, e->addresses, e->n))
		memcpy(e->addresses, found, n * sizeof(found[0]));
	e->n = n;
	e->failing = false;
	e->error = 0;
	e->answered_ms = monotonic_coarse_ms();
	e->due_ms = e->answered_ms + ttl_ms(r, info);
}

/* The thread: c-ares */

static int error_of(int status)
{
	switch (status) {
	case ARES_ENODATA:
	case ARES_ENOTFOUND:
	case ARES_ENONAME:
	case ARES_EBADNAME:
		return -ENOENT;
	case ARES_ETIMEOUT:
		return -ETIMEDOUT;
	case ARES_ECONNREFUSED:
		return -ECONNREFUSED;
	case ARES_ENOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

/* Callback of c-ares. It may be called from within ares_getaddrinfo(). */
static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct resolved *e = arg;
	struct resolver *r = e->resolver;

	pthread_mutex_lock(&r->lock);
	e->asking = false;
	r->n_asking--;
	if (status == ARES_SUCCESS && info && info->nodes)
		note_answer(r, e, info);
	else if (status != ARES_EDESTRUCTION) /* by resolver_free() */
		note_failure(r, e, status == ARES_SUCCESS ? -ENOENT : error_of(status));
	e->answered = true;
	answer_all(e);
	pthread_mutex_unlock(&r->lock);
	if (info)
		ares_freeaddrinfo(info);
}

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
	if (i == SOCKETS_MAX)
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

static int open_channel(struct resolver *r)
{
	struct ares_options options = {
		.timeout = r->config.timeout_ms ? r->config.timeout_ms : TIMEOUT_MS,
		.tries = TRIES,
		.sock_state_cb = on_socket,
		.sock_state_cb_data = r,
	};
	int status =
		ares_init_options(&r->channel, &options,
				  ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);

	if (status != ARES_SUCCESS) {
		r->channel = NULL;
		return status;
	}
	ares_set_socket_configure_callback(r->channel, on_new_socket, r);
	return r->servers ? ares_set_servers_ports_csv(r->channel, r->servers) : ARES_SUCCESS;
}

static void close_channel(struct resolver *r)
{
	if (r->channel)
		ares_destroy(TAKE_PTR(r->channel));
	r->n_sockets = 0;
}

/* Moves added names whose time has come to the wanted ones. Returns when the next one is due. */
static uint64_t want_due(struct resolver *r, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;
	struct resolved *e;
	uint32_t i;

	for (i = 0; i < BUCKETS; i++) {
		LIST_FOREACH (e, &r->buckets[i], bucket_entry) {
			if (!e->added || e->wanted || e->asking)
				continue;
			if (e->due_ms <= now_ms)
				want(r, e);
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
	e = TAILQ_FIRST(&r->wanted);
	if (e) {
		TAILQ_REMOVE(&r->wanted, e, wanted_entry);
		e->wanted = false;
		e->asking = true;
		r->n_asking++;
	}
	pthread_mutex_unlock(&r->lock);
	return e;
}

static void ask_wanted(struct resolver *r)
{
	/* c-ares sorts by connecting sockets, which it would not give to on_new_socket(). */
	static const struct ares_addrinfo_hints hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = ARES_AI_NOSORT,
	};
	struct resolved *e;
	int status;

	while ((e = take_wanted(r))) {
		status = r->channel ? ARES_SUCCESS : open_channel(r);
		if (status == ARES_SUCCESS) {
			ares_getaddrinfo(r->channel, e->host, NULL, &hints, on_answer, e);
		} else {
			close_channel(r);
			on_answer(e, status, 0, NULL);
		}
	}
	if (r->n_asking == 0)
		close_channel(r);
}

static int wait_ms(struct resolver *r, uint64_t due_ms)
{
	const uint64_t now_ms = monotonic_coarse_ms();
	struct timeval buf, *wait = r->channel ? ares_timeout(r->channel, NULL, &buf) : NULL;
	uint64_t ms = due_ms == UINT64_MAX ? INT_MAX : due_ms > now_ms ? due_ms - now_ms : 0;

	if (wait && (uint64_t)wait->tv_sec * 1000 + (uint64_t)wait->tv_usec / 1000 < ms)
		ms = (uint64_t)wait->tv_sec * 1000 + (uint64_t)wait->tv_usec / 1000 + 1;
	return ms < INT_MAX ? (int)ms : due_ms == UINT64_MAX ? -1 : INT_MAX;
}

/* Waits for sockets, for the next name that is due, or for resolver::wake_fd. */
static void wait_and_process(struct resolver *r, uint64_t due_ms)
{
	struct pollfd fds[SOCKETS_MAX + 1];
	const nfds_t n = r->n_sockets;
	eventfd_t value;
	nfds_t i;

	memcpy(fds, r->sockets, n * sizeof(fds[0]));
	fds[n] = (struct pollfd){ .fd = r->wake_fd, .events = POLLIN };
	if (poll(fds, n + 1, wait_ms(r, due_ms)) < 0)
		return;
	if (fds[n].revents)
		eventfd_read(r->wake_fd, &value);
	for (i = 0; r->channel && i < n; i++) {
		if (fds[i].revents)
			ares_process_fd(r->channel,
					fds[i].revents & ~POLLOUT ? fds[i].fd : ARES_SOCKET_BAD,
					fds[i].revents & ~POLLIN ? fds[i].fd : ARES_SOCKET_BAD);
	}
	/* Timeouts. */
	if (r->channel)
		ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
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
	/* Calls on_answer() for what is asked. */
	close_channel(r);
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

	for (i = 0; i < BUCKETS; i++) {
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
	wake(r->wake_fd);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	ares_library_cleanup();
	destroy(r);
}

/* Any thread: names */

struct resolved *resolver_add(struct resolver *r, const char *host)
{
	struct resolved *e;

	pthread_mutex_lock(&r->lock);
	e = entry_of(r, host);
	if (e && e->added++ == 0) {
		stop_remembering(r, e);
		want(r, e);
	}
	pthread_mutex_unlock(&r->lock);
	return e;
}

void resolver_remove(struct resolver *r, struct resolved *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&r->lock);
	if (--e->added == 0)
		remember(r, e);
	pthread_mutex_unlock(&r->lock);
}

size_t resolved_addresses(struct resolved *e, union sockaddr_any *ret, size_t max)
{
	size_t n;

	pthread_mutex_lock(&e->resolver->lock);
	n = e->n < max ? e->n : max;
	memcpy(ret, e->addresses, n * sizeof(ret[0]));
	pthread_mutex_unlock(&e->resolver->lock);
	return n;
}

int resolved_state(struct resolved *e, uint64_t *ret_age_ms)
{
	int error;

	pthread_mutex_lock(&e->resolver->lock);
	error = e->answered ? e->error : -EINPROGRESS;
	*ret_age_ms = e->answered_ms ? monotonic_coarse_ms() - e->answered_ms : 0;
	pthread_mutex_unlock(&e->resolver->lock);
	return error;
}

/* The thread of a port: questions */

static void on_answers(evutil_socket_t fd, short what, void *arg)
{
	struct resolver_port *port = arg;
	struct resolver_question *q;
	eventfd_t value;

	eventfd_read(port->wake_fd, &value);
	for (;;) {
		pthread_mutex_lock(&port->resolver->lock);
		q = TAILQ_FIRST(&port->answers);
		if (q)
			TAILQ_REMOVE(&port->answers, q, entry);
		pthread_mutex_unlock(&port->resolver->lock);
		if (!q)
			return;
		q->fn(q->data, q->error, q->addresses, q->n);
		free(q);
	}
}

struct resolver_port *resolver_port_new(struct resolver *r, struct event_base *base)
{
	struct resolver_port *port = calloc(1, sizeof(*port));

	if (!port)
		return NULL;
	port->resolver = r;
	TAILQ_INIT(&port->answers);
	port->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (port->wake_fd >= 0)
		port->event =
			event_new(base, port->wake_fd, EV_READ | EV_PERSIST, on_answers, port);
	if (!port->event || event_add(port->event, NULL) < 0) {
		if (port->event)
			event_free(port->event);
		util_closep(&port->wake_fd);
		free(port);
		return NULL;
	}
	pthread_mutex_lock(&r->lock);
	LIST_INSERT_HEAD(&r->ports, port, port_entry);
	pthread_mutex_unlock(&r->lock);
	return port;
}

/* Frees the questions of a port that are on a list. */
static void free_questions(struct question_list *list, const struct resolver_port *port)
{
	struct resolver_question *q, *next;

	for (q = TAILQ_FIRST(list); q; q = next) {
		next = TAILQ_NEXT(q, entry);
		if (q->port != port)
			continue;
		TAILQ_REMOVE(list, q, entry);
		free(q);
	}
}

void resolver_port_free(struct resolver_port *port)
{
	struct resolver *r;
	struct resolved *e;
	uint32_t i;

	if (!port)
		return;
	r = port->resolver;
	pthread_mutex_lock(&r->lock);
	LIST_REMOVE(port, port_entry);
	free_questions(&port->answers, port);
	for (i = 0; i < BUCKETS; i++) {
		LIST_FOREACH (e, &r->buckets[i], bucket_entry)
			free_questions(&e->questions, port);
	}
	pthread_mutex_unlock(&r->lock);
	event_free(port->event);
	close(port->wake_fd);
	free(port);
}

struct resolver_question *resolver_ask(struct resolver_port *port, const char *host,
				       resolver_answer_fn fn, void *data)
{
	struct resolver_question *q = calloc(1, sizeof(*q));
	struct resolver *r = port->resolver;
	struct resolved *e;

	if (!q)
		return NULL;
	q->port = port;
	q->fn = fn;
	q->data = data;
	pthread_mutex_lock(&r->lock);
	e = entry_of(r, host);
	if (!e) {
		free(TAKE_PTR(q));
	} else if ((e->added && e->n) || (e->answered && monotonic_coarse_ms() < e->due_ms)) {
		answer(e, q);
	} else {
		q->list = &e->questions;
		TAILQ_INSERT_TAIL(q->list, q, entry);
		want(r, e);
	}
	pthread_mutex_unlock(&r->lock);
	return q;
}

void resolver_cancel(struct resolver_question *q)
{
	struct resolver *r;

	if (!q)
		return;
	r = q->port->resolver;
	pthread_mutex_lock(&r->lock);
	TAILQ_REMOVE(q->list, q, entry);
	pthread_mutex_unlock(&r->lock);
	free(q);
}
