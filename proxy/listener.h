/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The listening sockets of a worker, of one address family. They accept only what can be served:
 * with the session limit reached, or without a descriptor or memory for both sides, they stop to
 * listen for events, and clients wait in the backlog until a session ends or a short timer fires.
 * Never spins.
 */
#ifndef TPROXY_LISTENER_H
#define TPROXY_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "crowd.h"
#include "tproxy_abi.h"

struct event;
struct registration;
union sockaddr_any;
struct worker;

struct listener_socket {
	struct listener *listener;
	int fd;		     /* owned */
	struct event *event; /* a client waits */
	bool destroyed;	     /* by somebody who may: it does not listen any more */
	uint32_t left;	     /* retired: clients that are still to be accepted */
	struct crowd_wait wait;
};

struct listener {
	struct worker *worker;
	sa_family_t family;
	struct listener_socket sockets[TPROXY_PORTS_MAX];
	uint32_t n_sockets;    /* 0: closed */
	int spare_fd;	       /* a socket to dial with for the next client, -1: none */
	bool exempt;	       /* our cgroup exempts it; else it is marked */
	uint32_t asked_before; /* connections ago */
	struct event *resume;  /* timer, while paused; NULL: retired */
	bool paused;
	bool counted; /* retired: sockets[].left is set */
};

/*
 * Makes a listening socket for *addr, marked and verified, and adds it to what reg will publish.
 * With port 0 the kernel chooses one. Returns a descriptor or -errno, which is logged.
 */
int listener_bind(struct registration *reg, const union sockaddr_any *addr, int backlog);

/*
 * n listening sockets of one family, which it takes over. Without memory for them it closes them
 * and says so in worker's lost_listener.
 */
void listener_init(struct listener *l, struct worker *worker, sa_family_t family, const int *fds,
		   uint32_t n);
void listener_finish(struct listener *l);

#define LISTENER_NULL                                                                              \
	{                                                                                          \
		.spare_fd = -1                                                                     \
	}

/*
 * The end of a listener's life. *from is moved to *to, where events tell of nothing any more, and
 * is closed; listener_serve_retired() is to be called from time to time.
 */
void listener_retire(struct listener *to, struct listener *from);

enum listener_left {
	LISTENER_MORE,	 /* clients wait: again in the next turn of the loop */
	LISTENER_PAUSED, /* a client waits, and cannot be served now */
	LISTENER_EMPTY,
};

/*
 * Accepts what waits at a retired listener, not more than some dozens. last: only those that wait
 * at the first call that says so; others, who may be a flood, are none that were redirected here.
 */
enum listener_left listener_serve_retired(struct listener *l, bool last);
/* A session has ended: if paused, go on. */
void listener_resume(struct listener *l);

#endif
