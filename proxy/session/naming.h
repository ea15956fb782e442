/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Naming: how a session finds the name of its destination in the client's first bytes (sniff.h),
 * and what the lines of [names] decide for it (name_policy.h). If a line depends on the addresses
 * of the name, it asks the resolver. That takes at most SNIFF_WAIT_MS and NAMING_ASK_MS.
 *
 * A naming knows no session. It belongs to the thread of its environment.
 */
#ifndef TPROXY_NAMING_H
#define TPROXY_NAMING_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "parse.h"
#include "tproxy_abi.h"
#include "upstream/name_policy.h"
#include "upstream/sniff.h"

struct resolver_question;
struct session_env;

/* Limit of a wait for the resolver. After it, the address is not one of the name's. */
#define NAMING_ASK_MS 2000

/* What a session keeps of its destination. Freed with free(). */
struct known_name {
	bool ech;	      /* the true name may be another one */
	const char *protocol; /* or NULL */
	char text[];	      /* empty: no name */
};

struct naming {
	/* For the owner, when it is over: */
	bool over;
	bool reset;		 /* the client has reset the connection */
	struct upstreams *set;	 /* a reference; of the decision */
	struct tproxy_conn conn; /* as it was given */
	struct sniffed sniffed;	 /* its name is empty if there is none */
	struct name_decision decision;

	/* Private: */
	struct session_env *env;
	const union sockaddr_any *dst;
	enum name_address address;
	struct sniff *sniff;		    /* owned while it waits */
	struct resolver_question *question; /* owned while it waits */
	struct event timeout;		    /* of the question */
	void (*done)(void *data);
	void *data;
};

/* True if a connection to dst is to be named. */
bool naming_is_wanted(const struct session_env *env, const union sockaddr_any *dst);

/*
 * Begins. dst must outlive the naming. done is called later, from the event loop, unless the naming
 * is over when this returns. Returns NULL if memory is short.
 */
struct naming *naming_begin(struct session_env *env, int client_fd, const union sockaddr_any *dst,
			    const struct tproxy_conn *conn, void (*done)(void *data), void *data);
/* Ends it at any time, and leaves the client's socket as it was. NULL is ignored. */
void naming_free(struct naming *naming);

/* Returns what was found out, or NULL: nothing, or memory is short. */
struct known_name *naming_result(const struct naming *naming);

#endif
