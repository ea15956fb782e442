// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See naming.h. There are three steps, and a naming may end after each: sniff, decide, and, if
 * the decision depends on the address, ask the resolver and decide again. Only one thing is waited
 * for at a time.
 */
#include "naming.h"

#include <event2/event.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "deadline.h"
#include "env.h"
#include "upstream/resolver.h"
#include "upstream/upstream.h"
#include "util.h"

/* One lost packet, or one silent name server, costs a connection its time and not its name. */
_Static_assert(RESOLVER_TRY_MS <= NAMING_ASK_MS / 2, "the second try is too late");

static void finish(struct naming *n)
{
	n->over = true;
	if (n->done)
		n->done(n->data);
}

/* Compares the addresses, without ports. An IPv4-mapped address is the same as its IPv4 one. */
static bool same_address(const union sockaddr_any *a, const union sockaddr_any *b)
{
	static const uint8_t mapped[12] = { [10] = 0xff, 0xff };

	if (a->sa.sa_family == AF_INET && b->sa.sa_family == AF_INET)
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	if (a->sa.sa_family == AF_INET6 && b->sa.sa_family == AF_INET6)
		return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0;
	if (a->sa.sa_family == AF_INET)
		return same_address(b, a);
	return memcmp(&a->in6.sin6_addr, mapped, sizeof(mapped)) == 0 &&
	       memcmp((const char *)&a->in6.sin6_addr + 12, &b->in.sin_addr, 4) == 0;
}

static void decide(struct naming *n);

/* The resolver has answered, or will not. */
static void answered(struct naming *n, const union sockaddr_any *addresses, size_t count)
{
	size_t i;

	n->address = NAME_ADDRESS_OTHER;
	for (i = 0; i < count; i++) {
		if (same_address(&addresses[i], n->dst))
			n->address = NAME_ADDRESS_OF_NAME;
	}
	decide(n);
}

static void on_answer(void *data, int error, const union sockaddr_any *addresses, size_t count)
{
	struct naming *n = data;

	n->question = NULL;
	event_del(&n->timeout);
	answered(n, addresses, error ? 0 : count);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct naming *n = arg;

	resolver_cancel(TAKE_PTR(n->question));
	answered(n, NULL, 0);
}

/* Returns AF_INET for an IPv4-mapped address too. */
static int family_of(const union sockaddr_any *addr)
{
	if (addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&addr->in6.sin6_addr))
		return AF_INET;
	return addr->sa.sa_family;
}

static void ask(struct naming *n)
{
	const struct timeval wait = deadline_timeval(NAMING_ASK_MS);
	struct session_env *env = n->env;
	const int family = family_of(n->dst);

	if (!env->resolver_port && n->set->resolver)
		env->resolver_port = resolver_port_new(n->set->resolver, env->base);
	if (env->resolver_port)
		n->question =
			resolver_ask(env->resolver_port, n->sniffed.name, family, on_answer, n);
	if (n->question && event_add(&n->timeout, &wait) == 0)
		return;
	resolver_cancel(TAKE_PTR(n->question));
	answered(n, NULL, 0);
}

static void decide(struct naming *n)
{
	name_policy(n->set, &n->sniffed, n->address, &n->decision);
	if (n->decision.verdict == NAME_VERDICT_ASK)
		ask(n);
	else
		finish(n);
}

static void sniffed(struct naming *n, enum sniff_result result)
{
	n->reset = result == SNIFF_RESET;
	if (result == SNIFF_NAME)
		decide(n);
	else
		finish(n);
}

static void on_sniffed(void *arg)
{
	struct naming *n = arg;
	enum sniff_result r = sniff_end(TAKE_PTR(n->sniff), &n->sniffed);

	sniffed(n, r);
}

bool naming_is_wanted(const struct session_env *env, const union sockaddr_any *dst)
{
	const struct upstreams *set = env->upstreams;
	size_t i;

	if (!set || !set->conf.sniff)
		return false;
	/* The ports of both families are at the same place. */
	for (i = 0; i < set->conf.n_sniff_ports; i++) {
		if (set->conf.sniff_ports[i] == ntohs(dst->in.sin_port))
			return true;
	}
	return false;
}

struct naming *naming_begin(struct session_env *env, int client_fd, const union sockaddr_any *dst,
			    const struct tproxy_conn *conn, void (*done)(void *data), void *data)
{
	struct naming *n = calloc(1, sizeof(*n));
	const struct sniff_request request = {
		.base = env->base,
		.fd = client_fd,
		.dst = dst,
		.uid = conn->uid,
		.silent = &env->shared->silent,
		.done = on_sniffed,
		.arg = n,
	};
	enum sniff_result r;

	if (!n)
		return NULL;
	n->env = env;
	n->dst = dst;
	n->conn = *conn;
	n->set = upstreams_ref(env->upstreams);
	n->data = data;
	evtimer_assign(&n->timeout, env->base, on_timeout, n);
	r = sniff_begin(&request, &n->sniff, &n->sniffed);
	if (r != SNIFF_MORE)
		sniffed(n, r);
	/* Set only now, so that it is not called before this function returns. */
	n->done = done;
	return n;
}

void naming_free(struct naming *n)
{
	if (!n)
		return;
	if (n->sniff)
		sniff_end(n->sniff, NULL);
	resolver_cancel(n->question);
	event_del(&n->timeout);
	upstreams_unref(n->set);
	free(n);
}

struct known_name *naming_result(const struct naming *n)
{
	const size_t size = strlen(n->sniffed.name) + 1;
	struct known_name *known;

	if (!n->sniffed.protocol)
		return NULL;
	known = malloc(sizeof(*known) + size);
	if (!known)
		return NULL;
	known->ech = n->sniffed.ech;
	known->protocol = n->sniffed.protocol;
	memcpy(known->text, n->sniffed.name, size);
	return known;
}
