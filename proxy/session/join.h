/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A join: how a client is reached whose connect() is pending. Its SYN waits until the relay has
 * reached the destination. The relay then binds a socket to the port that the client asked, and
 * connects it to the client's own address and port. Both ends have sent a SYN, and TCP lets them
 * meet (simultaneous open, RFC 9293, 3.5): the client's connect() succeeds, and nothing is
 * accepted.
 *
 * Another socket may have that address and port by then. So no byte passes before the kernel half
 * says in the slot of this connect() that its very socket is established.
 *
 * A join exists from the first event of a pending connect() until its client is joined, or has its
 * answer. It knows no session. It belongs to the thread of its environment.
 */
#ifndef TPROXY_JOIN_H
#define TPROXY_JOIN_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "kernel/pending.h"
#include "tproxy_abi.h"

struct event_base;
struct marks;
struct pending_maps;

/* Limit of the time between connect() and the slot that says established. Only tests change it. */
extern uint32_t join_limit_ms;

enum join_result {
	JOIN_DONE,   /* this client is at the other end of join_take_fd() */
	JOIN_GONE,   /* the client has given up */
	JOIN_FAILED, /* for a reason of this host; the client still waits */
};

typedef void (*join_done_fn)(void *data, enum join_result result);

struct join {
	LIST_ENTRY(join) entry; /* join_table::buckets */
	struct pending pending;
	struct tproxy_conn conn; /* as the kernel half has recorded it */
	void *data;

	/* For the owner: */
	bool wants_name;   /* the name of the destination is to be found once the client is there */
	bool server_reset; /* the server has reset already: pass on what it sent, then the reset */

	bool begun; /* by join_begin() */

	/* Private: */
	struct join_table *table;
	struct event_base *base;
	const struct pending_maps *maps;
	const struct marks *marks;
	bool exempt;
	join_done_fn done;
	bool connected; /* our end is; the slot does not say so yet */
	int fd;		/* owned; -1: none */
	uint64_t begun_ms;
	uint32_t wait_ms; /* until the slot is looked at again */
	struct event event;
};

/* What a join is made of. All pointers but pending and conn stay valid until it is freed. */
struct join_request {
	struct event_base *base;
	const struct pending_maps *maps;
	const struct marks *marks;
	bool exempt;			/* this process is in the relay cgroup */
	const struct pending *pending;	/* copied */
	const struct tproxy_conn *conn; /* copied */
	join_done_fn done;
	void *data;
};

/* All joins of an environment, by slot. */
#define JOIN_BUCKETS 1024
struct join_table {
	uint32_t n;
	LIST_HEAD(, join) buckets[JOIN_BUCKETS];
	/* Sockets of the next joins, by TPROXY_INET and TPROXY_INET6; -1: none. */
	int spares[_TPROXY_FAMILY_MAX];
};

void join_table_init(struct join_table *table);
/* Closes what join_prepare() has made. */
void join_table_finish(struct join_table *table);

/*
 * Makes the socket of the next join of this family (AF_INET or AF_INET6), unless there is one. Call
 * it when no client waits: each join makes its own otherwise, while its client waits. An error
 * shows there.
 */
void join_prepare(struct join_table *table, sa_family_t family, const struct marks *marks,
		  bool exempt);

/*
 * Creates a join for a pending connect() and puts it into the table. The client is not touched yet.
 * Returns NULL if memory is short.
 */
struct join *join_new(struct join_table *table, const struct join_request *request);
/* Returns the join of a pending connect(), or NULL. */
struct join *join_find(const struct join_table *table, const struct pending *pending);

/* Connects to the client. done is called once, unless join_free() is called before; it may be
 * called before this function returns. */
void join_begin(struct join *join);
/* True if the client has given up. */
bool join_client_is_gone(const struct join *join);
/* Tells the kernel half what the client gets. */
void join_answer(const struct join *join, enum tproxy_answer answer);
/* After JOIN_DONE: returns the socket, which the caller then owns. */
int join_take_fd(struct join *join);
/* Ends it at any time. Closes its socket, with a reset. NULL is ignored. */
void join_free(struct join *join);

#endif
