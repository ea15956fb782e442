/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A handshake with an upstream: the step between connect() and the relaying of bytes, such as
 * SOCKS5, HTTP CONNECT or a PROXY header. A dial makes it (dial.h).
 *
 * There are two parts. The protocol (struct handshake_ops) is a state machine of bytes in and bytes
 * out. It knows neither sockets nor events nor sessions. The driver (handshake_run()) moves these
 * bytes from and to a non-blocking socket and returns what it waits for. It knows no protocol. To
 * add one, write its ops and let nth_handshake() of attempt.c return them.
 *
 * The driver takes from the socket only the bytes that belong to the handshake: as many as must
 * still come, or, if the protocol does not know, what it finds by peeking. The first byte after
 * them stays there for the relay, and so does an urgent mark.
 *
 * Passwords pass through handshake_io::out, which core dumps leave out. The driver overwrites it.
 */
#ifndef TPROXY_HANDSHAKE_H
#define TPROXY_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parse.h"

struct tproxy_conn;
struct upstream_conf;

/* Limit of the bytes that one step may send. */
#define HANDSHAKE_OUT_MAX 2048
/* Limit of the bytes that an upstream may send in a handshake. */
#define HANDSHAKE_IN_MAX  (64 * 1024)
#define HANDSHAKE_WHY_LEN 64

/* What the handshake is for. The pointers outlive it. */
struct handshake_target {
	const union sockaddr_any *dst;	  /* original destination */
	const union sockaddr_any *client; /* the client's address */
	const char *name;		  /* to ask for in place of dst; NULL: ask for dst */
	const struct upstream_conf *upstream;
	const struct tproxy_conn *conn; /* the kernel half's record; NULL in tests */
	const char *known_name; /* name of the destination if one is known, for information only */
};

enum handshake_result {
	HANDSHAKE_AGAIN,    /* all of the input belongs to the handshake, and more must come */
	HANDSHAKE_DONE,	    /* after the output is sent, bytes are relayed */
	HANDSHAKE_ERROR,    /* the upstream refuses this destination: error and why are set */
	HANDSHAKE_UNUSABLE, /* the upstream serves nothing: it refuses user or password (EACCES), or
			       breaks the protocol (EPROTO). The next one is tried */
	/* The upstream does not serve this request, but may serve others. The next one is tried. */
	HANDSHAKE_NOT_SERVED,
};

/* Input and output of a step. */
struct handshake_io {
	const uint8_t *in; /* what came since the last step */
	size_t in_len;	   /* 0: the first step, before anything came */
	/* Set by the step: */
	size_t taken; /* HANDSHAKE_DONE: the bytes of in that belong to the handshake */
	/* The upstream accepts this host, its password too, and has the request. */
	bool accepted;
	bool partial; /* HANDSHAKE_AGAIN: an answer has begun, and its end must still come */
	uint8_t out[HANDSHAKE_OUT_MAX];
	size_t out_len;
	/* HANDSHAKE_AGAIN: at least so many bytes must still come; 0: not known. */
	size_t least;
	int error; /* HANDSHAKE_ERROR: the errno of a connect() to the destination; EPROTO: other */
	char why[HANDSHAKE_WHY_LEN]; /* for the log: "HTTP 403 Forbidden"; printable ASCII */
};

struct handshake_ops {
	const char *name;  /* for messages */
	size_t state_size; /* of the protocol's state, zeroed at first */
	/* The upstream answers before it reaches for the destination: silence is its own. */
	bool answers_first;
	/* It has no answer: bytes may follow those of the handshake immediately. */
	bool one_way;
	/*
	 * Makes one step. The driver calls it at once, and then for all that the upstream sends, in
	 * pieces of any size: a step keeps in its state what it needs of them. A step does not log
	 * and does not allocate.
	 */
	enum handshake_result (*step)(void *state, const struct handshake_target *target,
				      struct handshake_io *io);
};

extern const struct handshake_ops socks5_ops, http_connect_ops, proxy_header_ops;

struct handshake;

/* Copies *target. Returns NULL if memory is short. The thread that makes it runs it. */
struct handshake *handshake_create(const struct handshake_ops *ops,
				   const struct handshake_target *target);
/* Frees it. NULL is ignored. */
void handshake_destroy(struct handshake *h);

enum handshake_progress {
	HANDSHAKE_WAIT_READ,  /* call again when the socket is readable */
	HANDSHAKE_WAIT_WRITE, /* call again when the socket is writable */
	HANDSHAKE_FINISHED,   /* bytes are relayed from here on */
	HANDSHAKE_REFUSED,    /* *ret_error: errno of dst, as the upstream reports it */
	HANDSHAKE_DECLINED, /* *ret_error: errno of the request, which another upstream may serve */
	HANDSHAKE_BROKEN,   /* *ret_error: errno of the connection to the upstream */
};

/*
 * Moves the handshake on as far as that is possible without blocking. fd is connected.
 * bytes_follow, of a handshake that is one_way: the caller sends more immediately, so the kernel
 * may put both into one segment.
 */
enum handshake_progress handshake_run(struct handshake *h, int fd, bool bytes_follow,
				      int *ret_error);
/* Returns the protocol's text for the last error, or an empty string. */
const char *handshake_why(const struct handshake *h);
/* True if the upstream has sent an answer in this handshake, and no other one has begun. */
bool handshake_was_answered(const struct handshake *h);
/* True if a part of an answer, or all of it, has come, and nothing was sent since. */
bool handshake_is_in_answer(const struct handshake *h);
/* True if an answer has begun and its end is missing: the upstream owes it. */
bool handshake_is_partial(const struct handshake *h);
/* True if the upstream has accepted this host: it is at work for the destination. */
bool handshake_was_accepted(const struct handshake *h);
/* Returns its ops. */
const struct handshake_ops *handshake_ops_of(const struct handshake *h);

#endif
