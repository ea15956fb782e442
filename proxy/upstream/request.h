/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a dial is given, and what it gives back (dial.h). Its attempts use the request too. */
#ifndef TPROXY_REQUEST_H
#define TPROXY_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "upstream.h"

struct event;
struct event_base;
struct marks;
struct tls_bridge;
struct tls_home;
struct tproxy_conn;
union sockaddr_any;

/* The end of a dial. The pointers but upstream are valid until the callback returns. */
struct dial_result {
	int fd;			   /* connected, owned by the callback; -1: the dial failed */
	struct upstream *upstream; /* that won, or failed last; NULL: none was dialled */
	struct tls_bridge *bridge; /* owned by the callback; NULL: no TLS */
	/*
	 * An event that waits until fd is readable, or NULL. The callback deletes it, best after it
	 * has added an event of its own for the same: libevent then makes no system call.
	 */
	struct event *event;
	bool is_tcp;	 /* fd is a TCP socket; otherwise a UNIX one */
	bool nagle;	 /* fd has Nagle's algorithm */
	bool acks_late;	 /* TCP_QUICKACK of fd is off, until the first bytes are sent */
	int error;	 /* of a failed dial */
	bool refused;	 /* error is the destination's, or the policy's: for map_failed */
	bool expired;	 /* dial_expire() ended it */
	const char *why; /* text of a failure, or NULL */
};

typedef void (*dial_done_fn)(void *data, const struct dial_result *result);

/* What is dialled. All pointers but conn stay valid until the dial has ended. */
struct dial_request {
	struct event_base *base;
	struct tls_home *tls; /* NULL: upstreams with TLS cannot be dialled */
	struct upstreams *set;
	struct upstream *upstream;     /* of set */
	const union sockaddr_any *dst; /* original destination */
	const union sockaddr_any *client;
	const char *name;		/* of the destination, or NULL */
	const struct tproxy_conn *conn; /* copied */
	int client_fd;			/* not read from */
	int fd;				/* a prepared socket of family, taken over; or -1 */
	sa_family_t family;
	const struct marks *marks;    /* for the marks of further sockets */
	bool exempt;		      /* they need none */
	uint32_t so_mark;	      /* SO_MARK of upstream sockets, or 0 */
	void (*on_event)(void *data); /* called first for each event of an attempt; or NULL */
	dial_done_fn done;
	void *data;
};

#endif
