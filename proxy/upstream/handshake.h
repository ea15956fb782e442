/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A handshake with an upstream: the step between connect() and the relaying of bytes, such as
 * SOCKS5, HTTP CONNECT or a PROXY header. A session frees its handshake when it is done.
 *
 * There are two parts. The protocol (struct handshake_ops) is a state machine of bytes in and bytes
 * out. It knows neither sockets nor events nor sessions. The driver (handshake_run()) moves these
 * bytes from and to a non-blocking socket and returns what it waits for. It knows no protocol. To
 * add one, write its ops and let route_of() return them.
 *
 * The driver peeks at what the upstream has sent, and takes from the socket only the bytes that
 * belong to the handshake. The first byte after them stays there for the relay, and so does an
 * urgent mark.
 */
#ifndef TPROXY_HANDSHAKE_H
#define TPROXY_HANDSHAKE_H

#include <stddef.h>
#include <stdint.h>

#include "parse.h"

/* Limit of the bytes that one step may send: a user name and a password of SOCKS5 fit. */
#define HANDSHAKE_OUT_MAX 1024
/* Limit of the bytes that an upstream may send in a handshake. */
#define HANDSHAKE_IN_MAX (64 * 1024)

enum handshake_result {
	HANDSHAKE_AGAIN, /* all of the input belongs to the handshake, and more must come */
	HANDSHAKE_DONE,	 /* after the output is sent, bytes are relayed */
	HANDSHAKE_ERROR, /* the upstream refuses; handshake_io::error is set */
};

/* Input and output of a step. */
struct handshake_io {
	const uint8_t *in; /* what came since the last step */
	size_t in_len;	   /* 0: the first step, before anything came */
	/* Set by the step: */
	size_t taken; /* HANDSHAKE_DONE: the bytes of in that belong to the handshake */
	uint8_t out[HANDSHAKE_OUT_MAX];
	size_t out_len;
	int error; /* HANDSHAKE_ERROR: the errno of a connect() to the destination; EPROTO: other */
};

struct handshake_ops {
	const char *name;  /* for messages */
	size_t state_size; /* of the protocol's state, zeroed at first */
	/*
	 * Makes one step. The driver calls it at once, and then for all that the upstream sends, in
	 * pieces of any size: a step keeps in its state what it needs of them. dst is the original
	 * destination. A step does not log and does not allocate.
	 */
	enum handshake_result (*step)(void *state, const union sockaddr_any *dst,
				      struct handshake_io *io);
};

struct handshake;

/*
 * upstream: where the handshake will be made; dst: the original destination. Returns NULL if memory
 * is short.
 */
struct handshake *handshake_create(const struct handshake_ops *ops,
				   const union sockaddr_any *upstream,
				   const union sockaddr_any *dst);
/* NULL is ignored. */
void handshake_destroy(struct handshake *h);

enum handshake_progress {
	HANDSHAKE_WAIT_READ,  /* call again when the socket is readable */
	HANDSHAKE_WAIT_WRITE, /* call again when the socket is writable */
	HANDSHAKE_FINISHED,   /* bytes are relayed from here on */
	HANDSHAKE_REFUSED,    /* *ret_error: errno of dst, as the upstream reports it */
	HANDSHAKE_BROKEN,     /* *ret_error: errno of the connection to the upstream */
};

/* Moves the handshake on as far as that is possible without blocking. fd is connected. */
enum handshake_progress handshake_run(struct handshake *h, int fd, int *ret_error);
/* Returns the address that handshake_create() was given; it lives as long as h. */
const union sockaddr_any *handshake_upstream(const struct handshake *h);
/* Returns handshake_ops::name. */
const char *handshake_name(const struct handshake *h);

#endif
