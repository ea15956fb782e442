/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An attempt of a dial (dial.h), at one address of one upstream: connect(), TLS if the upstream has
 * it, then the handshakes of its protocol, one after the other. It ends with a socket over which
 * bytes reach the destination, or with the reason why there is none. It decides nothing else. The
 * dial logs, and reports to the health of the upstream.
 */
#ifndef TPROXY_ATTEMPT_H
#define TPROXY_ATTEMPT_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "handshake.h"
#include "upstream.h"

/* Room for the text of a failure: TLS has the longest ones. */
#define ATTEMPT_WHY_LEN 128

struct dial_request;
struct tls_bridge;

enum attempt_stage {
	ATTEMPT_IDLE, /* no attempt */
	ATTEMPT_CONNECT,
	ATTEMPT_TLS,
	ATTEMPT_HANDSHAKE,
};

enum attempt_progress {
	ATTEMPT_RUNS,
	ATTEMPT_DONE,	  /* fd reaches the destination */
	ATTEMPT_REFUSED,  /* by the upstream: error is the destination's */
	ATTEMPT_DECLINED, /* the upstream does not serve this request, but may serve others */
	ATTEMPT_FAILED,	  /* the upstream's failure: how, error */
	ATTEMPT_LOCAL,	  /* this host's: it says nothing about the upstream */
};

struct attempt {
	const struct dial_request *request;
	struct upstream *upstream;
	union upstream_addr addr;
	enum attempt_stage stage;
	int fd;			   /* owned: the socket, or the near end of the bridge; or -1 */
	struct tls_bridge *bridge; /* owned, or NULL */
	struct handshake *handshake;
	size_t n_handshakes; /* begun */
	bool no_delay;	     /* TCP_NODELAY is set */
	bool acks_late;	     /* TCP_QUICKACK is off */
	bool accepted;	     /* the upstream is at work for the destination */
	/* The backlog of a UNIX socket is full: the time until the next connect(); else 0. */
	uint32_t backlog_ms;
	struct event event;
	short waits; /* EV_READ or EV_WRITE on fd; EV_TIMEOUT: backs off; 0: for no event */
	uint64_t started_us;
	/* Set by the end: */
	enum health_failure how;
	int error;
	char why[ATTEMPT_WHY_LEN]; /* empty: error says all */
	/* Called when an event has ended the attempt, never from within attempt_start(). */
	void (*on_end)(struct attempt *a, enum attempt_progress progress);
	/* Called once if the upstream has accepted this host and is to answer later; or NULL. */
	void (*on_accepted)(struct attempt *a);
	void *owner;
};

/*
 * Starts an attempt, and returns how far it came. fd: a prepared socket of addr's family, taken
 * over; -1: makes a socket. request and upstream must outlive the attempt.
 */
enum attempt_progress attempt_start(struct attempt *a, const struct dial_request *request,
				    struct upstream *upstream, const union upstream_addr *addr,
				    int fd);
/* Closes what the attempt owns: its stage is IDLE again. An idle one is ignored. */
void attempt_close(struct attempt *a);

/* True if fd is a TCP socket with Nagle's algorithm. */
bool attempt_has_nagle(const struct attempt *a);
/* Returns the event that waits until fd is readable, or NULL if there is none. */
struct event *attempt_event(struct attempt *a);
/* True if the upstream has shown no life: it has not accepted, or not answered where it must. */
bool attempt_is_unanswered(const struct attempt *a);
/* True if it waits for room in the backlog of a UNIX socket: the server is busy, but alive. */
bool attempt_is_in_queue(const struct attempt *a);
/* Returns the text for an attempt that is given up because it takes too long. */
const char *attempt_silence(const struct attempt *a);
/* Logs why the attempt has failed, within the limit of its upstream. */
void attempt_log_failure(const struct attempt *a, const char *why);
/*
 * True if a failed attempt had whole answers, and then the end of the connection. ssh -D
 * does that if it cannot reach the destination, so it tells nothing about the upstream's health.
 */
bool attempt_ended_after_answer(const struct attempt *a);
/* True if the event that the attempt waits for is pending. */
bool attempt_has_work(const struct attempt *a);
/* Returns the text of its failure. */
const char *attempt_why(const struct attempt *a);
/* Returns how long it has taken so far, in microseconds. */
uint64_t attempt_us(const struct attempt *a);

#endif
