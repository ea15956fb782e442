/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses of host names, resolved by c-ares in a thread of its own, so that no worker waits for a
 * name server. A name that /etc/hosts has is taken from there. Otherwise the servers are asked for
 * both families; if they answer for one and not for the other, the addresses of the first are used
 * meanwhile (resolver_answer.h). /etc/hosts and /etc/resolv.conf are read again for each burst of
 * questions.
 *
 * A name that is added is kept up to date: it is asked for again when its TTL ends, at least 5 s
 * and at most 1 h after the last answer. If that fails, the old addresses stay, and the question is
 * repeated after 1 s, 2 s, and so on up to 60 s; up to 5 s if there is no old answer. The same
 * applies if the servers fail for one family only.
 *
 * A question (resolver_ask()) is answered once. Its answer is remembered for its TTL, within the
 * same limits, and a failure for 1 s, up to 5 s if it is repeated. At most RESOLVER_REMEMBERED_MAX
 * names are remembered.
 *
 * The sockets of c-ares are marked by resolver_config::mark before they connect, so that the kernel
 * half does not redirect them to this relay.
 */
#ifndef TPROXY_RESOLVER_H
#define TPROXY_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parse.h"

struct event_base;

/* Limit of the addresses of one name. */
#define RESOLVER_ADDRESSES_MAX	32
#define RESOLVER_REMEMBERED_MAX 1024
/* A server that has not answered for so long is asked again, or the next one is. */
#define RESOLVER_TRY_MS 1000

struct resolver;
struct resolved;
struct resolver_port;
struct resolver_question;

struct resolver_config {
	/*
	 * Called in the resolver's thread for each new socket. Returns 0, or -errno: the socket is
	 * not used then. NULL: sockets are not marked.
	 */
	int (*mark)(void *data, int fd);
	void *mark_data;
	const char *servers; /* for tests: ADDR:PORT,...; NULL: those of /etc/resolv.conf */
	uint64_t ttl_least_ms, ttl_most_ms; /* for tests; 0: 5 s, 1 h */
	uint64_t retry_ms;		    /* for tests: first interval after a failure; 0: 1 s */
	int timeout_ms;			    /* of one try, for tests; 0: RESOLVER_TRY_MS */
};

/*
 * Starts the thread; it blocks all signals. Returns 0 or -errno. The thread logs if a name that was
 * added cannot be resolved, and when it can again.
 */
int resolver_new(const struct resolver_config *config, struct resolver **ret_resolver);
/*
 * Ends the thread. All ports must have been freed; the handles of resolver_add() become invalid.
 * NULL is ignored.
 */
void resolver_free(struct resolver *resolver);

/*
 * Keeps the addresses of host up to date until resolver_remove(). Adding a name twice gives the
 * same handle, to be removed twice. Does not wait. Returns NULL if memory is short. Any thread.
 */
struct resolved *resolver_add(struct resolver *resolver, const char *host);
/* Any thread. NULL is ignored. */
void resolver_remove(struct resolver *resolver, struct resolved *resolved);

/*
 * Copies the addresses, with port 0, families in turn, without those that no server can have. Their
 * order stays while the name servers give the same ones. Returns their number: 0 before the first
 * answer. Any thread; does not block on a name server.
 */
size_t resolved_addresses(struct resolved *resolved, union sockaddr_any *ret, size_t max);
/*
 * Returns 0 if the last question was answered, for one family at least, or the negative errno of
 * its failure: -ENOENT (there is no such name, or it has no address), -EADDRNOTAVAIL (it has none
 * that a server can have, such as 0.0.0.0), -ETIMEDOUT, -ECONNREFUSED (the servers cannot be
 * reached, or give no answer), -EIO; -EINPROGRESS before the first answer. *ret_age_ms: since the
 * last answer. Any thread.
 */
int resolved_state(struct resolved *resolved, uint64_t *ret_age_ms);

/* Returns a text for a negative errno of this file, such as "there is no such name". */
const char *resolver_error_text(int error);

/* A port delivers answers in the thread of one event base, which creates, uses and frees it. */
struct resolver_port *resolver_port_new(struct resolver *resolver, struct event_base *base);
/* Cancels the questions that are left. NULL is ignored. */
void resolver_port_free(struct resolver_port *port);

/* error: 0, or the negative errno as in resolved_state(). The question is freed after the call. */
typedef void (*resolver_answer_fn)(void *data, int error, const union sockaddr_any *addresses,
				   size_t n);

/*
 * Asks for the addresses of host. family: AF_INET or AF_INET6 if those of the other family need not
 * be waited for, or AF_UNSPEC; the answer may have both in any case. fn is called later from the
 * event loop, never from within this call. Returns NULL if memory is short. For a name that was
 * added, addresses that are known are the answer, even if the last question has failed.
 */
struct resolver_question *resolver_ask(struct resolver_port *port, const char *host, int family,
				       resolver_answer_fn fn, void *data);
/* fn will not be called. NULL is ignored. */
void resolver_cancel(struct resolver_question *question);

#endif
