/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A listening socket of a worker. It accepts only what can be served: with the session limit
 * reached, or without a descriptor or memory for both sides, it stops to listen for events, and
 * clients wait in the backlog until a session ends or a short timer fires. Never spins.
 */
#ifndef TPROXY_LISTENER_H
#define TPROXY_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct event;
struct registration;
union sockaddr_any;
struct worker;

struct listener {
	struct worker *worker;
	int fd; /* owned, -1: closed */
	sa_family_t family;
	int spare_fd;	      /* a marked socket to dial with for the next client, -1: none */
	struct event *event;  /* a client waits */
	struct event *resume; /* timer, while paused */
	bool paused;
	uint64_t quiet_until_ms; /* pauses before that belong to one that was logged */
};

/*
 * Makes a listening socket for *addr, marked and verified. With port 0 the kernel chooses one,
 * which is stored to *addr: several workers' sockets share it (SO_REUSEPORT). Returns a descriptor
 * or -errno, which is logged.
 */
int listener_bind(const struct registration *reg, union sockaddr_any *addr);

/* Takes over fd, also when it fails. 0 or -ENOMEM. */
int listener_init(struct listener *l, struct worker *worker, int fd);
void listener_finish(struct listener *l);

#define LISTENER_NULL                                                                              \
	{                                                                                          \
		.fd = -1, .spare_fd = -1                                                           \
	}

/*
 * Accepts all that is in the backlog, at the end of a listener's life. false: paused before the
 * last one.
 */
bool listener_accept_all(struct listener *l);
/* A session has ended: if paused, go on. */
void listener_resume(struct listener *l);

#endif
