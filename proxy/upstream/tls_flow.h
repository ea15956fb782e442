/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How the bytes of a TLS bridge (tls.h) move: the handshake, and a flow in each direction. "up"
 * goes from the far end of the pair to the upstream, "down" the other way. A flow that could not
 * write keeps its piece and reads no more until that is written.
 *
 * OpenSSL reads no further than the current record, and a record fits into the scratch buffer.
 * Nothing is thus left inside OpenSSL when an event has been handled, and level-triggered events of
 * the socket report all that there is to do.
 *
 * These functions wait for nothing, report nothing and free nothing but kept pieces: the caller
 * does, by what they return.
 */
#ifndef TPROXY_TLS_FLOW_H
#define TPROXY_TLS_FLOW_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "tls_bio.h"
#include "tls_context.h"

/* The most plain text of a record. */
#define TLS_PIECE (16 * 1024)
/* Room for the text of a failure. */
#define TLS_FAILURE_LEN 128

struct tls_kept;

struct tls_flow {
	struct tls_kept *kept; /* a piece that was read and is not yet written; owned, or NULL */
	bool eof;	       /* the source has ended, and all its bytes are written */
};

struct tls_flows {
	SSL *ssl;
	struct tls_socket socket; /* of the upstream */
	int far;		  /* our end of the pair */
	char *scratch;		  /* TLS_PIECE bytes, shared by the bridges of a thread */
	struct tls_flow up, down;
	bool open;     /* the handshake is done */
	bool notified; /* close_notify is sent */
};

/* What a flow needs before it can go on. */
enum tls_need {
	TLS_NEEDS_NOTHING, /* it has ended, or the handshake is done */
	TLS_NEEDS_TURN,	   /* only the next turn: an event of its source will come */
	TLS_NEEDS_FD_READ, /* of the upstream's socket */
	TLS_NEEDS_FD_WRITE,
	TLS_NEEDS_FAR_READ,
	TLS_NEEDS_FAR_WRITE,
	TLS_FAILED, /* the connection is lost: see struct tls_failure */
};

/* Set with TLS_FAILED only: the arguments of tls_done_fn. */
struct tls_failure {
	int error; /* not 0 */
	char why[TLS_FAILURE_LEN];
};

/* Moves the handshake on. Returns TLS_NEEDS_NOTHING when it is done, and sets flows->open. */
enum tls_need tls_flow_handshake(struct tls_flows *flows, struct tls_failure *ret_failure);
/* Moves one flow on, as far as that is possible in one turn. Ends the flow if its source has. */
enum tls_need tls_flow_up(struct tls_flows *flows, struct tls_failure *ret_failure);
enum tls_need tls_flow_down(struct tls_flows *flows, struct tls_failure *ret_failure);
/* Frees the pieces that are kept. */
void tls_flow_finish(struct tls_flows *flows);

#endif
