// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See resolver.h. Not written yet: every function fails. */
#include "resolver.h"

#include <errno.h>

int resolver_new(const struct resolver_config *config, struct resolver **ret_resolver)
{
	return -EOPNOTSUPP;
}

void resolver_free(struct resolver *resolver)
{
}

struct resolved *resolver_add(struct resolver *resolver, const char *host)
{
	return NULL;
}

void resolver_remove(struct resolver *resolver, struct resolved *resolved)
{
}

size_t resolved_addresses(struct resolved *resolved, union sockaddr_any *ret, size_t max)
{
	return 0;
}

int resolved_state(struct resolved *resolved, uint64_t *ret_age_ms)
{
	return -EINPROGRESS;
}

struct resolver_port *resolver_port_new(struct resolver *resolver, struct event_base *base)
{
	return NULL;
}

void resolver_port_free(struct resolver_port *port)
{
}

struct resolver_question *resolver_ask(struct resolver_port *port, const char *host,
				       resolver_answer_fn fn, void *data)
{
	return NULL;
}

void resolver_cancel(struct resolver_question *question)
{
}
