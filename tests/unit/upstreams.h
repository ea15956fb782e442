/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sets of upstreams for tests. Included by one file of each test program. */
#ifndef TPROXY_TEST_UPSTREAMS_H
#define TPROXY_TEST_UPSTREAMS_H

#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "upstream/upstream.h"

static struct upstreams_conf upstreams_conf;

/* Adds an upstream to upstreams_conf. */
static struct upstream_conf *add_upstream(const char *name, enum upstream_type type,
					  const struct sockaddr_in *addr)
{
	struct upstreams_conf *conf = &upstreams_conf;
	struct upstream_conf *u;

	conf->list = realloc(conf->list, (conf->n + 1) * sizeof(*conf->list));
	assert_non_null(conf->list);
	u = &conf->list[conf->n++];
	*u = (struct upstream_conf){ .id = upstream_id(name), .type = type };
	strcpy(u->name, name);
	if (addr)
		u->addr.in = *addr;
	return u;
}

/* Makes a set of upstreams_conf, and leaves that empty. */
static struct upstreams *make_upstreams(const char *by_default, const struct upstreams *before)
{
	struct upstreams *set;

	strcpy(upstreams_conf.default_name, by_default);
	assert_int_equal(upstreams_new(&upstreams_conf, NULL, before, &set), 0);
	return set;
}

/* Makes a set with one upstream, which is the default. */
static inline struct upstreams *one_upstream(enum upstream_type type,
					     const struct sockaddr_in *addr)
{
	add_upstream("one", type, addr);
	return make_upstreams("one", NULL);
}

#endif
