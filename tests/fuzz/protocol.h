/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs the state machine of a protocol against the input as the server's bytes, at once and in
 * pieces whose sizes the input chooses: the outcome must be the same. A target includes this file
 * after the code under test.
 */
#ifndef TPROXY_FUZZ_PROTOCOL_H
#define TPROXY_FUZZ_PROTOCOL_H

#include <arpa/inet.h>

#include "fuzz.h"
#include "upstream/handshake.h"
#include "upstream/secret.h"
#include "upstream/upstream.h"

struct secret {
	const uint8_t *bytes;
	size_t len;
};

const uint8_t *secret_bytes(const struct secret *secret, size_t *ret_len)
{
	*ret_len = secret->len;
	return secret->bytes;
}

/* Longer than the limits of the protocols. */
#define LONG_INPUT (17 * 1024)

enum fuzz_choice {
	FUZZ_CREDENTIALS = 1 << 0,
	FUZZ_PIPELINE = 1 << 1,
	FUZZ_NAME = 1 << 2,
	FUZZ_IPV6 = 1 << 3,
	FUZZ_LONG = 1 << 4, /* the server's bytes come again and again, to reach limits */
};

/* What a handshake came to. */
struct outcome {
	enum handshake_result result;
	int error;
	char why[HANDSHAKE_WHY_LEN];
	size_t taken; /* of the server's bytes */
	size_t out_len;
	uint8_t out[4 * HANDSHAKE_OUT_MAX];
};

static void fuzz_step(const struct handshake_ops *ops, void *state,
		      const struct handshake_target *target, const uint8_t *in, size_t len,
		      struct outcome *o)
{
	struct handshake_io *io = calloc(1, sizeof(*io));
	uint8_t *copy = (uint8_t *)fuzz_string(in, len);

	require(io);
	io->in = copy;
	io->in_len = len;
	o->result = ops->step(state, target, io);
	require(io->taken <= len);
	require(io->out_len <= sizeof(io->out));
	require(o->out_len + io->out_len <= sizeof(o->out));
	memcpy(o->out + o->out_len, io->out, io->out_len);
	o->out_len += io->out_len;
	o->taken += o->result == HANDSHAKE_DONE ? io->taken : len;
	o->error = io->error;
	require(memchr(io->why, '\0', sizeof(io->why)));
	memcpy(o->why, io->why, sizeof(o->why));
	for (const char *c = o->why; *c; c++)
		require(*c >= ' ' && *c <= '~');
	if (o->result != HANDSHAKE_AGAIN && o->result != HANDSHAKE_DONE)
		require(o->error > 0 && *o->why);
	free(copy);
	free(io);
}

/* cuts: sizes of the pieces, one after the other, and again; none: one piece. */
static void fuzz_run(const struct handshake_ops *ops, const struct handshake_target *target,
		     const uint8_t *in, size_t len, const uint8_t *cuts, size_t n_cuts,
		     struct outcome *o)
{
	void *state = calloc(1, ops->state_size ? ops->state_size : 1);
	size_t off = 0, n, i = 0;

	require(state);
	memset(o, 0, sizeof(*o));
	fuzz_step(ops, state, target, in, 0, o);
	while (o->result == HANDSHAKE_AGAIN && off < len) {
		n = n_cuts ? 1U + cuts[i++ % n_cuts] : len - off;
		n = n < len - off ? n : len - off;
		fuzz_step(ops, state, target, in + off, n, o);
		off += n;
	}
	free(state);
}

static void fuzz_compare(const struct outcome *a, const struct outcome *b)
{
	require(a->result == b->result);
	require(a->error == b->error);
	require(strcmp(a->why, b->why) == 0);
	if (a->result != HANDSHAKE_AGAIN && a->result != HANDSHAKE_DONE)
		return;
	require(a->taken == b->taken);
	require(a->out_len == b->out_len);
	require(memcmp(a->out, b->out, a->out_len) == 0);
}

/*
 * The input: choices, the number of cuts, the cuts, and the server's bytes. check() then gets these
 * bytes and the outcome.
 */
static int fuzz_protocol(const struct handshake_ops *ops, const uint8_t *data, size_t size,
			 void (*check)(const uint8_t *in, size_t len, const struct outcome *o))
{
	static const char password[] = "pa\r\nss\xff";
	static struct outcome whole, split;
	struct secret secret = { (const uint8_t *)password, sizeof(password) - 1 };
	struct upstream_conf *conf = calloc(1, sizeof(*conf));
	union sockaddr_any dst = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(443) } };
	struct handshake_target target = { .dst = &dst, .client = &dst, .upstream = conf };
	const uint8_t *cuts;
	size_t n_cuts, repeat;
	uint8_t choices, *in;

	require(conf);
	if (size < 2 || size - 2 < data[1] % 8U) {
		free(conf);
		return 0;
	}
	choices = data[0];
	n_cuts = data[1] % 8U;
	cuts = data + 2;
	data += 2 + n_cuts;
	size -= 2 + n_cuts;
	repeat = choices & FUZZ_LONG && size > 0 ? 1 + LONG_INPUT / size : 1;
	in = malloc(size * repeat + 1);
	require(in);
	for (size_t i = 0; i < repeat; i++) {
		if (size > 0)
			memcpy(in + i * size, data, size);
	}
	if (choices & FUZZ_CREDENTIALS) {
		memcpy(conf->user, "user", 5);
		conf->secret = &secret;
	}
	conf->pipeline = choices & FUZZ_PIPELINE;
	target.name = choices & FUZZ_NAME ? "www.example.org" : NULL;
	if (!(choices & FUZZ_IPV6))
		dst.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(443) };
	fuzz_run(ops, &target, in, size * repeat, NULL, 0, &whole);
	fuzz_run(ops, &target, in, size * repeat, cuts, n_cuts, &split);
	fuzz_compare(&whole, &split);
	check(in, size * repeat, &whole);
	free(in);
	free(conf);
	return 0;
}

#endif
