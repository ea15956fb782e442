// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See sniff.h. The bytes are peeked at (MSG_PEEK), always from the first one. A socket with a part
 * of a hello stays readable, and level-triggered events would spin. SO_RCVLOWAT therefore makes the
 * kernel report it only when the parser can make progress. sniff_end() sets it back to 1.
 *
 * The kernel reports less than SO_RCVLOWAT at a FIN, after a reset, before an urgent byte, or if
 * memory is short. An event that brings no byte therefore ends the wait. What is in the socket is
 * for the relaying that follows. A reset is seen here only if nothing is left before it.
 *
 * A slot of the silent destinations has 40 bits of a hash and the second until which it counts,
 * modulo 2^24. A destination whose slot is taken by another one is waited for again.
 */
#include "sniff.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "h2_authority.h"
#include "http_host.h"
#include "monotonic.h"
#include "tls_hello.h"

#define TLS_FIRST_BYTE 22 /* of a record with a part of a handshake */
#define SECONDS_MASK   UINT64_C(0xffffff)

struct sniff {
	struct event readable, timeout;
	int fd;
	size_t have; /* bytes that were peeked at */
	bool has_lowat;
	enum sniff_result result;
	struct sniffed sniffed;
	struct sniff_silent *silent;
	uint64_t hash; /* of the destination and the user */
	sniff_done_fn done;
	void *arg;
};

void sniff_silent_init(struct sniff_silent *silent)
{
	*silent = (struct sniff_silent){};
	/* Without it the table still works. */
	if (getrandom(&silent->seed, sizeof(silent->seed), GRND_NONBLOCK) < 0)
		silent->seed = monotonic_coarse_ms();
}

/* The finaliser of MurmurHash3. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
	x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

static uint64_t hash_of(const struct sniff_silent *silent, const union sockaddr_any *dst,
			uint32_t uid)
{
	uint64_t words[2] = {}, hash = silent->seed;

	if (dst->sa.sa_family == AF_INET6)
		memcpy(words, &dst->in6.sin6_addr, sizeof(dst->in6.sin6_addr));
	else
		memcpy(words, &dst->in.sin_addr, sizeof(dst->in.sin_addr));
	hash = mix(hash ^ words[0]);
	hash = mix(hash ^ words[1]);
	return mix(hash ^ ((uint64_t)uid << 16 | dst->in.sin_port));
}

static _Atomic uint64_t *slot_of(struct sniff_silent *silent, uint64_t hash)
{
	return &silent->slots[hash % SNIFF_SILENT_SLOTS];
}

static uint64_t now_s(void)
{
	return monotonic_coarse_ms() / 1000;
}

static bool is_silent(struct sniff_silent *silent, uint64_t hash)
{
	const uint64_t slot = atomic_load_explicit(slot_of(silent, hash), memory_order_relaxed);

	return ((slot ^ hash) & ~SECONDS_MASK) == 0 &&
	       ((slot - now_s()) & SECONDS_MASK) <= SNIFF_SILENT_MS / 1000;
}

static void note_silent(struct sniff_silent *silent, uint64_t hash)
{
	const uint64_t until = (now_s() + SNIFF_SILENT_MS / 1000) & SECONDS_MASK;

	atomic_store_explicit(slot_of(silent, hash), (hash & ~SECONDS_MASK) | until,
			      memory_order_relaxed);
}

static void forget_silent(struct sniff_silent *silent, uint64_t hash)
{
	if (is_silent(silent, hash))
		atomic_store_explicit(slot_of(silent, hash), 0, memory_order_relaxed);
}

static bool begins_with(const void *data, size_t len, const char *prefix)
{
	return len >= strlen(prefix) && memcmp(data, prefix, strlen(prefix)) == 0;
}

enum sniff_result sniff_name(const void *data, size_t len, struct sniffed *ret)
{
	const uint8_t *bytes = data;
	enum sniff_result r;

	if (len > SNIFF_MAX)
		len = SNIFF_MAX;
	if (begins_with(data, len, "SSH-")) {
		*ret = (struct sniffed){ .protocol = "ssh" };
		return SNIFF_NONE;
	}
	/* A short beginning of the preface may also be that of a request of HTTP/1. */
	if (h2_may_begin(bytes, len))
		r = h2_authority_parse(bytes, len, ret);
	else if (len > 0 && bytes[0] == TLS_FIRST_BYTE)
		r = tls_hello_parse(bytes, len, ret);
	else
		r = http_host_parse(bytes, len, ret);
	if (r == SNIFF_MORE && ret->need > SNIFF_MAX)
		r = SNIFF_NONE;
	return r;
}

/*
 * Peeks at the client's bytes, of which the caller has seen *have. Returns SNIFF_NONE if there are
 * no more than these, unless there never was one: then the client may be about to send.
 */
static enum sniff_result peek(int fd, size_t *have, struct sniffed *ret)
{
	uint8_t data[SNIFF_MAX];
	ssize_t n = recv(fd, data, sizeof(data), MSG_PEEK | MSG_DONTWAIT);

	*ret = (struct sniffed){ .need = 1 };
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && *have == 0)
		return SNIFF_MORE;
	/* The kernel reports an error once only. */
	if (n < 0)
		return SNIFF_RESET;
	if ((size_t)n <= *have)
		return SNIFF_NONE;
	*have = (size_t)n;
	return sniff_name(data, *have, ret);
}

/* Has the kernel report the socket as readable from bytes on. Returns false if it refuses. */
static bool set_lowat(struct sniff *s, size_t bytes)
{
	const int value = (int)bytes;

	if (bytes <= 1 && !s->has_lowat)
		return true;
	if (setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value)) < 0)
		return false;
	s->has_lowat = bytes > 1;
	return true;
}

static void finish(struct sniff *s, enum sniff_result result)
{
	s->result = result;
	event_del(&s->readable);
	event_del(&s->timeout);
	s->done(s->arg);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct sniff *s = arg;
	enum sniff_result r = peek(s->fd, &s->have, &s->sniffed);

	if (r == SNIFF_MORE && set_lowat(s, s->sniffed.need))
		return;
	finish(s, r == SNIFF_MORE ? SNIFF_NONE : r);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct sniff *s = arg;

	if (s->have == 0)
		note_silent(s->silent, s->hash);
	s->sniffed = (struct sniffed){};
	finish(s, SNIFF_NONE);
}

/* Waits for more of the client. Returns NULL if that is not possible. */
static struct sniff *wait_more(const struct sniff_request *request, uint64_t hash, size_t have,
			       size_t need)
{
	static const struct timeval wait = { .tv_usec = SNIFF_WAIT_MS * 1000 };
	struct sniff *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->fd = request->fd;
	s->have = have;
	s->result = SNIFF_NONE;
	s->silent = request->silent;
	s->hash = hash;
	s->done = request->done;
	s->arg = request->arg;
	event_assign(&s->readable, request->base, s->fd, EV_READ | EV_PERSIST, on_readable, s);
	evtimer_assign(&s->timeout, request->base, on_timeout, s);
	if (set_lowat(s, need) && event_add(&s->readable, NULL) == 0 &&
	    event_add(&s->timeout, &wait) == 0)
		return s;
	sniff_end(s, NULL);
	return NULL;
}

enum sniff_result sniff_begin(const struct sniff_request *request, struct sniff **ret_sniff,
			      struct sniffed *ret_sniffed)
{
	const uint64_t hash = hash_of(request->silent, request->dst, request->uid);
	size_t have = 0;
	enum sniff_result r = peek(request->fd, &have, ret_sniffed);

	if (have > 0)
		forget_silent(request->silent, hash);
	if (r != SNIFF_MORE)
		return r;
	if (have == 0 && is_silent(request->silent, hash))
		return SNIFF_NONE;
	*ret_sniff = wait_more(request, hash, have, ret_sniffed->need);
	return *ret_sniff ? SNIFF_MORE : SNIFF_NONE;
}

enum sniff_result sniff_end(struct sniff *s, struct sniffed *ret_sniffed)
{
	const enum sniff_result result = s->result;

	event_del(&s->readable);
	event_del(&s->timeout);
	set_lowat(s, 1);
	if (ret_sniffed)
		*ret_sniffed = s->sniffed;
	free(s);
	return result;
}
