// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See upstream.h. A set refers to its upstreams, and an upstream counts the sets that it is in: a
 * reload moves those that are unchanged from the old set to the new one. The old set, and the
 * upstreams that only it has, live until its last session has ended.
 */
#include "upstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "monotonic.h"
#include "names.h"
#include "parse.h"
#include "resolver.h"
#include "secret.h"
#include "tls.h"
#include "util.h"

socklen_t upstream_addr_len(const union upstream_addr *addr)
{
	switch (addr->sa.sa_family) {
	case AF_UNIX:
		return sizeof(addr->un);
	case AF_INET6:
		return sizeof(addr->in6);
	}
	return sizeof(addr->in);
}

char *upstream_addr_text(const union upstream_addr *addr, char buf[UPSTREAM_ADDR_TEXT_LEN])
{
	union sockaddr_any any = {};

	if (addr->sa.sa_family == AF_UNIX) {
		snprintf(buf, UPSTREAM_ADDR_TEXT_LEN, "%.*s", (int)sizeof(addr->un.sun_path),
			 addr->un.sun_path);
		return buf;
	}
	if (addr->sa.sa_family == AF_INET6)
		any.in6 = addr->in6;
	else
		any.in = addr->in;
	return format_endpoint(&any, buf);
}

size_t upstream_addresses(const struct upstream *u, uint32_t first, union upstream_addr *ret,
			  size_t max)
{
	union sockaddr_any found[RESOLVER_ADDRESSES_MAX];
	size_t i, n;

	if (!u->resolved) {
		ret[0] = u->conf.addr;
		return 1;
	}
	n = resolved_addresses(u->resolved, found, RESOLVER_ADDRESSES_MAX);
	for (i = 0; i < n && i < max; i++) {
		memset(&ret[i], 0, sizeof(ret[i]));
		memcpy(&ret[i], &found[(first + i) % n], sizeof(found[i]));
		ret[i].in.sin_port = htons(u->conf.port);
	}
	return n < max ? n : max;
}

int upstream_why_no_address(const struct upstream *u, char *why, size_t why_size)
{
	uint64_t age_ms;
	int r = resolved_state(u->resolved, &age_ms);

	if (r == -EINPROGRESS)
		return r;
	snprintf(why, why_size, "its name %.80s has no address: %s", u->conf.host,
		 resolver_error_text(r < 0 ? r : -ENOENT));
	return 0;
}

bool upstream_has_health(const struct upstream *u)
{
	return u->conf.type != UPSTREAM_GROUP && u->conf.type != UPSTREAM_DIRECT;
}

uint32_t upstream_good_address(const struct upstream *u)
{
	return atomic_load_explicit(&u->good, memory_order_relaxed);
}

void upstream_note_address(struct upstream *u, const union upstream_addr *addr)
{
	union upstream_addr found[RESOLVER_ADDRESSES_MAX];
	size_t i, n;

	if (!u->resolved)
		return;
	n = upstream_addresses(u, 0, found, RESOLVER_ADDRESSES_MAX);
	for (i = 0; i < n; i++) {
		if (memcmp(&found[i], addr, sizeof(*addr)) == 0)
			atomic_store_explicit(&u->good, (uint32_t)i, memory_order_relaxed);
	}
}

void upstream_note_success(struct upstream *u, uint64_t us)
{
	if (upstream_has_health(u) && health_succeeded(&u->health, us, monotonic_coarse_ms()))
		log_info("upstream '%s' is up again", u->conf.name);
}

void upstream_note_answer(struct upstream *u)
{
	if (upstream_has_health(u) && health_answered(&u->health, monotonic_coarse_ms()))
		log_info("upstream '%s' is up again", u->conf.name);
}

void upstream_note_failure(struct upstream *u, enum health_failure how, int error, const char *why)
{
	if (upstream_has_health(u) &&
	    health_failed(&u->health, how, error, why, monotonic_coarse_ms()))
		log_warning("upstream '%s' is down after %d failures, the last one: %s",
			    u->conf.name, HEALTH_FAILURES, why);
}

static void upstream_unref(struct upstream *u)
{
	if (!u || atomic_fetch_sub(&u->refs, 1) > 1)
		return;
	if (u->resolver)
		resolver_remove(u->resolver, u->resolved);
	tls_context_unref(u->tls);
	upstream_conf_finish(&u->conf);
	free(u);
}

/* True if the two mean the same. The line in the file does not count. */
static bool is_same(const struct upstream_conf *a, const struct upstream_conf *b)
{
	return a->id == b->id && a->type == b->type && a->port == b->port && a->tls == b->tls &&
	       a->tls_verify == b->tls_verify && a->send_name == b->send_name &&
	       a->pipeline == b->pipeline && a->proxy_process == b->proxy_process &&
	       a->proxy_header == b->proxy_header && a->order == b->order &&
	       a->n_members == b->n_members && a->when_down == b->when_down &&
	       a->down_error == b->down_error && a->down_wait_ms == b->down_wait_ms &&
	       a->check_interval_ms == b->check_interval_ms && strcmp(a->host, b->host) == 0 &&
	       strcmp(a->tls_name, b->tls_name) == 0 && strcmp(a->tls_ca, b->tls_ca) == 0 &&
	       strcmp(a->user, b->user) == 0 && memcmp(&a->addr, &b->addr, sizeof(a->addr)) == 0 &&
	       memcmp(a->members, b->members, sizeof(a->members)) == 0 &&
	       secret_equal(a->secret, b->secret);
}

static struct upstream *find_name(const struct upstreams *set, const char *name)
{
	size_t i;

	for (i = 0; set && i < set->n; i++) {
		if (strcmp(set->list[i]->conf.name, name) == 0)
			return set->list[i];
	}
	return NULL;
}

static int set_up_tls(struct upstream *u)
{
	const struct upstream_conf *conf = &u->conf;
	const struct tls_settings settings = {
		.name = *conf->tls_name ? conf->tls_name : conf->host,
		.ca = conf->tls_ca,
		.verify = conf->tls_verify,
	};
	char why[TLS_WHY_LEN];
	int r;

	if (!conf->tls)
		return 0;
	u->tls = TAKE_PTR(u->conf.tls_made);
	if (u->tls)
		return 0;
	r = tls_context_new(&settings, &u->tls, why);
	if (r < 0)
		log_err("upstream '%s' in line %u: cannot use TLS: %s", conf->name, conf->tls_line,
			why);
	return r;
}

static int set_up_name(struct upstream *u, struct resolver *resolver)
{
	if (!*u->conf.host)
		return 0;
	u->resolved = resolver_add(resolver, u->conf.host);
	if (!u->resolved)
		return log_out_of_memory();
	u->resolver = resolver;
	return 0;
}

/*
 * Adds an upstream to the set: the one of @before if that has the same configuration, otherwise a
 * new one. Takes over what *conf owns if it makes one.
 */
static int add(struct upstreams *set, struct upstream_conf *conf, struct resolver *resolver,
	       const struct upstreams *before)
{
	struct upstream *u = find_name(before, conf->name);
	int r;

	if (u && is_same(&u->conf, conf) && !(u->tls && tls_context_is_stale(u->tls))) {
		atomic_fetch_add(&u->refs, 1);
		upstream_conf_finish(conf);
		set->list[set->n++] = u;
		return 0;
	}
	u = calloc(1, sizeof(*u));
	if (!u)
		return log_out_of_memory();
	u->refs = 1;
	u->conf = *conf;
	conf->tls_made = NULL;
	r = set_up_tls(u);
	if (r == 0)
		r = set_up_name(u, resolver);
	if (r < 0) {
		u->conf.secret = NULL;
		upstream_unref(u);
		return r;
	}
	conf->secret = NULL;
	set->list[set->n++] = u;
	return 0;
}

/* Looks up the members of the groups, and the default. config.c has checked that they exist. */
static int connect_names(struct upstreams *set)
{
	size_t i, j;

	for (i = 0; i < set->n; i++) {
		const struct upstream_conf *conf = &set->list[i]->conf;

		for (j = 0; j < conf->n_members; j++) {
			set->members[i][j] = find_name(set, conf->members[j].name);
			if (!set->members[i][j])
				return -ENOENT;
		}
	}
	set->direct = find_name(set, UPSTREAM_NAME_DIRECT);
	set->by_default =
		*set->conf.default_name ? find_name(set, set->conf.default_name) : set->direct;
	return set->by_default ? 0 : -ENOENT;
}

static void set_free(struct upstreams *set)
{
	size_t i;

	for (i = 0; i < set->n; i++)
		upstream_unref(set->list[i]);
	upstreams_conf_finish(&set->conf);
	free(set);
}

/* Frees contexts of upstreams that were taken over from the set before, or that no set has. */
static void drop_tls(struct upstreams_conf *conf)
{
	size_t i;

	for (i = 0; i < conf->n; i++)
		tls_context_unref(TAKE_PTR(conf->list[i].tls_made));
}

int upstreams_new(struct upstreams_conf *conf, struct resolver *resolver,
		  const struct upstreams *before, struct upstreams **ret_set)
{
	struct upstream_conf direct = { .name = UPSTREAM_NAME_DIRECT, .type = UPSTREAM_DIRECT };
	struct upstreams *set;
	size_t i;
	int r = conf->n > UPSTREAMS_MAX ? -E2BIG : 0;

	set = calloc(1, sizeof(*set));
	if (!set) {
		drop_tls(conf);
		upstreams_conf_finish(conf);
		return log_out_of_memory();
	}
	set->refs = 1;
	set->resolver = resolver;
	direct.id = upstream_id(direct.name);
	for (i = 0; i < conf->n && r == 0; i++)
		r = add(set, &conf->list[i], resolver, before);
	if (r == 0)
		r = add(set, &direct, resolver, before);
	if (r == 0) {
		set->conf = *conf;
		set->conf.list = NULL;
		r = connect_names(set);
	}
	if (r == 0)
		conf->names = NULL;
	else
		set->conf.names = NULL;
	drop_tls(conf);
	upstreams_conf_finish(conf);
	if (r < 0) {
		set_free(set);
		return r;
	}
	*ret_set = set;
	return 0;
}

struct upstreams *upstreams_ref(struct upstreams *set)
{
	if (set)
		atomic_fetch_add(&set->refs, 1);
	return set;
}

void upstreams_unref(struct upstreams *set)
{
	if (set && atomic_fetch_sub(&set->refs, 1) == 1)
		set_free(set);
}

struct upstream *upstreams_find(const struct upstreams *set, uint32_t id)
{
	size_t i;

	if (id == 0)
		return set->by_default;
	for (i = 0; i < set->n; i++) {
		if (set->list[i]->conf.id == id)
			return set->list[i];
	}
	return NULL;
}

struct upstream *const *upstreams_members(const struct upstreams *set, const struct upstream *group)
{
	size_t i;

	for (i = 0; set->list[i] != group; i++)
		;
	return set->members[i];
}

bool upstreams_have_tls(const struct upstreams *set)
{
	size_t i;

	for (i = 0; i < set->n; i++) {
		if (set->list[i]->tls)
			return true;
	}
	return false;
}
