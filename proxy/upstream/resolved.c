// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See resolved.h. A name that was added is due again when its TTL ends, and after a failure at
 * intervals that double. A name that is only remembered is asked for when a question comes after
 * that time.
 */
#include "resolved.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "fnv.h"
#include "log.h"
#include "monotonic.h"
#include "util.h"

#define TTL_LEAST_MS 5000
#define TTL_MOST_MS  (3600 * 1000)
#define RETRY_MS     1000
/* Limits of the doubled interval after failures: with an old answer, and without one. */
#define RETRY_MOST_MS  60000
#define RETRY_FIRST_MS 5000

void resolver_wake(int fd)
{
	eventfd_write(fd, 1);
}

static uint32_t bucket_of(const char *host)
{
	return fnv32(FNV32_BASIS, host, strlen(host)) % RESOLVER_BUCKETS;
}

void resolved_want(struct resolver *r, struct resolved *e)
{
	if (e->wanted || e->answer)
		return;
	e->wanted = true;
	TAILQ_INSERT_TAIL(&r->wanted, e, wanted_entry);
	resolver_wake(r->wake_fd);
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
		if (e->wanted || e->answer || !TAILQ_EMPTY(&e->questions))
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

struct resolved *resolved_of(struct resolver *r, const char *host)
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
	case -EADDRNOTAVAIL:
		return "it has only addresses that no server can have";
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

static void answer(struct resolver_question *q, int error, const union sockaddr_any *addresses,
		   size_t n)
{
	q->error = n ? 0 : error;
	q->n = n;
	memcpy(q->addresses, addresses, n * sizeof(addresses[0]));
	q->list = &q->port->answers;
	TAILQ_INSERT_TAIL(q->list, q, entry);
	resolver_wake(q->port->wake_fd);
}

void resolved_answer(struct resolved *e, struct resolver_question *q)
{
	answer(q, e->error, e->addresses, e->n);
}

/* Returns the part that answers the question, or NULL if it must still come. */
static const struct answer_part *part_for(const struct resolved *e,
					  const struct resolver_question *q)
{
	const struct answer_part *part =
		e->answer ? resolver_answer_part(e->answer, q->family) : NULL;

	return part && !part->asking ? part : NULL;
}

bool resolved_answer_by_part(struct resolved *e, struct resolver_question *q)
{
	const struct answer_part *part = part_for(e, q);

	if (part)
		answer(q, part->error, part->addresses, part->n);
	return part;
}

/* Answers the questions that wait for the family of a part. */
static void answer_by_parts(struct resolved *e)
{
	struct resolver_question *q, *next;

	for (q = TAILQ_FIRST(&e->questions); q; q = next) {
		next = TAILQ_NEXT(q, entry);
		if (!part_for(e, q))
			continue;
		TAILQ_REMOVE(&e->questions, q, entry);
		resolved_answer_by_part(e, q);
	}
}

static void answer_all(struct resolved *e)
{
	struct resolver_question *q;

	while ((q = TAILQ_FIRST(&e->questions))) {
		TAILQ_REMOVE(&e->questions, q, entry);
		resolved_answer(e, q);
	}
}

/* Has the name asked for again soon, and later each time that it fails again. */
static void retry(struct resolver *r, struct resolved *e, bool again)
{
	const uint64_t most = e->added && e->n ? RETRY_MOST_MS : RETRY_FIRST_MS;
	const uint64_t first = r->config.retry_ms ? r->config.retry_ms : RETRY_MS;

	e->retry_ms = !again ? first : e->retry_ms * 2 < most ? e->retry_ms * 2 : most;
	e->due_ms = monotonic_coarse_ms() + e->retry_ms;
}

static void note_failure(struct resolver *r, struct resolved *e, int error)
{
	if (e->added && !e->failing)
		log_warning("cannot resolve \"%s\": %s%s", e->host, resolver_error_text(error),
			    e->n ? "; its last addresses stay in use" : "");
	retry(r, e, e->failing);
	e->failing = true;
	/* The addresses of a name that is only remembered are valid by their TTL, and no longer. */
	if (!e->added)
		e->n = 0;
	e->error = error;
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

/* Returns for how long an answer with this TTL is used. */
static uint64_t limit_ttl(const struct resolver *r, uint64_t ms)
{
	const uint64_t least = r->config.ttl_least_ms ? r->config.ttl_least_ms : TTL_LEAST_MS;
	const uint64_t most = r->config.ttl_most_ms ? r->config.ttl_most_ms : TTL_MOST_MS;

	return ms < least ? least : ms < most ? ms : most;
}

/* Notes the addresses of resolved::answer. */
static void note_addresses(struct resolver *r, struct resolved *e, const union sockaddr_any *found,
			   size_t n)
{
	if (e->added && e->failing)
		log_info("\"%s\" can be resolved again", e->host);
	/* Many name servers turn the order with each answer. */
	if (!same_addresses(found, n, e->addresses, e->n))
		memcpy(e->addresses, found, n * sizeof(found[0]));
	e->n = n;
	e->failing = false;
	e->error = 0;
	e->answered_ms = monotonic_coarse_ms();
	e->due_ms = e->answered_ms + limit_ttl(r, resolver_answer_ttl_ms(e->answer));
}

/* The name is not asked for any longer. */
static void finish(struct resolver *r, struct resolved *e)
{
	free(TAKE_PTR(e->answer));
	e->settle_ms = 0;
	e->settled = false;
	e->answered = true;
	r->n_asking--;
	answer_all(e);
}

bool resolved_begin(struct resolver *r, struct resolved *e)
{
	e->wanted = false;
	e->answer = resolver_answer_new();
	e->servers = e->added ? RESOLVER_ADDED : RESOLVER_CLIENTS;
	r->n_asking++;
	if (e->answer)
		return true;
	note_failure(r, e, -ENOMEM);
	finish(r, e);
	return false;
}

/* One family was answered, and for the other one the servers have failed. */
static void note_half(struct resolver *r, struct resolved *e, int error)
{
	const uint64_t ttl_end_ms = e->due_ms;

	if (e->added && !e->half)
		log_warning(
			"cannot resolve \"%s\" in both address families: %s; what is known is used",
			e->host, resolver_error_text(error));
	retry(r, e, e->half);
	if (ttl_end_ms < e->due_ms)
		e->due_ms = ttl_end_ms;
	e->half = true;
}

static void note_whole(struct resolved *e)
{
	if (e->added)
		log_info("\"%s\" can be resolved in both address families again", e->host);
	e->half = false;
}

void resolved_note(struct resolver *r, struct resolved *e, int family, int status,
		   const struct ares_addrinfo *info)
{
	union sockaddr_any found[RESOLVER_ADDRESSES_MAX];
	size_t n;
	int error, unknown;

	resolver_answer_note(e->answer, family, status, info);
	n = resolver_answer_addresses(e->answer, found);
	if (resolver_answer_is_open(e->answer)) {
		/* Old addresses are better than those of one family. */
		if (n && e->added && !e->n)
			e->settle_ms = monotonic_coarse_ms() + RESOLVER_SETTLE_MS;
		answer_by_parts(e);
		return;
	}
	error = resolver_answer_error(e->answer);
	unknown = resolver_answer_unknown(e->answer);
	if (n) {
		if (e->added)
			resolver_answer_keep(e->answer, e->addresses, e->n);
		n = resolver_answer_addresses(e->answer, found);
		note_addresses(r, e, found, n);
		if (unknown)
			note_half(r, e, unknown);
		else if (e->half)
			note_whole(e);
	} else if (error) {
		note_failure(r, e, error);
	}
	finish(r, e);
}

void resolved_settle(struct resolved *e)
{
	e->n = resolver_answer_addresses(e->answer, e->addresses);
	e->answered_ms = monotonic_coarse_ms();
	e->answered = true;
	e->error = 0;
	e->settle_ms = 0;
	e->settled = true;
}

/* Any thread: names */

struct resolved *resolver_add(struct resolver *r, const char *host)
{
	struct resolved *e;

	pthread_mutex_lock(&r->lock);
	e = resolved_of(r, host);
	if (e && e->added++ == 0) {
		stop_remembering(r, e);
		resolved_want(r, e);
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
