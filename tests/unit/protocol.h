/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs the state machine of a protocol against bytes of a server, in the place of the driver
 * (proxy/upstream/handshake.c). Included by the test program of each protocol.
 */
#ifndef TPROXY_TEST_PROTOCOL_H
#define TPROXY_TEST_PROTOCOL_H

#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "upstream/handshake.h"
#include "upstream/secret.h"
#include "upstream/upstream.h"
#include "util.h"

/* What a handshake came to. */
struct outcome {
	enum handshake_result result;
	int error;
	char why[HANDSHAKE_WHY_LEN];
	size_t taken;	  /* of the server's bytes */
	size_t first_len; /* bytes that were sent before the server sent anything */
	size_t out_len;	  /* bytes that were sent, in all steps */
	uint8_t out[8 * HANDSHAKE_OUT_MAX];
	bool accepted; /* the upstream is at work */
	bool partial;  /* an answer has begun */
	size_t needs;  /* bytes of the server, with those that must still come */
};

/* One step, with an input of its exact size on the heap, so that ASan sees a read behind it. */
static inline void protocol_step(const struct handshake_ops *ops, void *state,
				 const struct handshake_target *target, const uint8_t *in,
				 size_t len, struct outcome *o)
{
	struct handshake_io *io = calloc(1, sizeof(*io));
	uint8_t *copy = malloc(len ? len : 1);

	assert_non_null(io);
	assert_non_null(copy);
	if (len > 0)
		memcpy(copy, in, len);
	io->in = copy;
	io->in_len = len;
	o->result = ops->step(state, target, io);
	assert_true(io->taken <= len);
	assert_true(io->out_len <= sizeof(io->out));
	assert_non_null(memchr(io->why, '\0', sizeof(io->why)));
	assert_true(o->out_len + io->out_len <= sizeof(o->out));
	memcpy(o->out + o->out_len, io->out, io->out_len);
	o->out_len += io->out_len;
	o->taken += o->result == HANDSHAKE_DONE ? io->taken : len;
	/* The driver takes as many as must still come: they must all be the handshake's. */
	if (o->result == HANDSHAKE_AGAIN && o->taken + io->least > o->needs)
		o->needs = o->taken + io->least;
	if (o->result == HANDSHAKE_DONE)
		assert_true(o->needs <= o->taken);
	o->error = io->error;
	o->accepted |= io->accepted;
	o->partial = o->result == HANDSHAKE_AGAIN && io->partial;
	snprintf(o->why, sizeof(o->why), "%s", io->why);
	free(copy);
	free(io);
}

/* The server's bytes come in pieces of this size, the first one in a piece of size first. */
static inline void protocol_run_split(const struct handshake_ops *ops,
				      const struct handshake_target *target, const void *server,
				      size_t len, size_t first, size_t piece, struct outcome *o)
{
	void *state = calloc(1, ops->state_size ? ops->state_size : 1);
	const uint8_t *in = server;
	size_t off = 0, n = first;

	assert_non_null(state);
	memset(o, 0, sizeof(*o));
	protocol_step(ops, state, target, NULL, 0, o);
	o->first_len = o->out_len;
	while (o->result == HANDSHAKE_AGAIN && off < len) {
		if (n == 0 || n > len - off)
			n = len - off;
		protocol_step(ops, state, target, in + off, n, o);
		off += n;
		n = piece;
	}
	free(state);
}

/* All at once, in bytes, and cut in two at each position: the outcome must be the same. */
static inline void protocol_run(const struct handshake_ops *ops,
				const struct handshake_target *target, const void *server,
				size_t len, struct outcome *o)
{
	struct outcome split;

	protocol_run_split(ops, target, server, len, len, len, o);
	for (size_t i = 0; i < len; i++) {
		protocol_run_split(ops, target, server, len, i ? i : 1, i ? len : 1, &split);
		assert_int_equal(split.result, o->result);
		assert_int_equal(split.error, o->error);
		assert_string_equal(split.why, o->why);
		assert_int_equal(split.accepted, o->accepted);
		assert_int_equal(split.partial, o->partial);
		if (o->result == HANDSHAKE_DONE || o->result == HANDSHAKE_AGAIN) {
			assert_int_equal(split.taken, o->taken);
			assert_int_equal(split.out_len, o->out_len);
			assert_memory_equal(split.out, o->out, o->out_len);
		}
	}
}

static struct upstream_conf conf;
static union sockaddr_any dst, client;
static struct handshake_target target = { .dst = &dst, .client = &client, .upstream = &conf };

static inline void set_address(union sockaddr_any *addr, const char *text)
{
	assert_int_equal(parse_endpoint(text, addr), 0);
}

static inline int protocol_setup(void **state)
{
	memset(&conf, 0, sizeof(conf));
	target.name = target.known_name = NULL;
	target.client = &client;
	target.conn = NULL;
	set_address(&dst, "192.0.2.9:443");
	set_address(&client, "192.0.2.1:50000");
	return 0;
}

static inline void set_credentials(const char *user, const char *password)
{
	snprintf(conf.user, sizeof(conf.user), "%s", user);
	assert_int_equal(secret_new(password, strlen(password), &conf.secret), 0);
}

static inline int protocol_teardown(void **state)
{
	secret_free(conf.secret);
	return 0;
}

#endif
