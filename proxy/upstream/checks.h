/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Active checks: a connection to each upstream with `check-interval`, once in each interval, with a
 * PROXY header and TLS if the upstream has them. Then it is closed. The result counts for the
 * health of the upstream as that of a dial does, without the time. So an upstream is found down
 * before a client meets it, and up again without a client's trial. All functions run in the thread
 * of the event base.
 */
#ifndef TPROXY_CHECKS_H
#define TPROXY_CHECKS_H

struct checks;
struct event_base;
struct marks;
struct upstreams;

/*
 * Starts the checks of a set, of which they keep a reference. marks: for the sockets; must outlive
 * the checks, and its content may change. Returns NULL if memory is short, logged.
 */
struct checks *checks_new(struct event_base *base, struct upstreams *set,
			  const struct marks *marks);
/* NULL is ignored. */
void checks_free(struct checks *checks);

#endif
