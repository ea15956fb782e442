// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * SOCKS5 (RFC 1928), with user and password if the upstream has them (RFC 1929).
 *
 * The request has the target's name if there is one, otherwise the destination's address. With
 * `pipeline = yes` the request is sent together with what precedes it. This saves a round trip. It
 * is not the default, since a server that takes one message from each recv() loses the request, as
 * microsocks 1.0.3 does, and the handshake then hangs.
 *
 * A reply other than 0 becomes an errno of the destination:
 *
 *   0x01 general failure                   EHOSTUNREACH
 *   0x02 not allowed by the rule set       EACCES
 *   0x03 network unreachable               ENETUNREACH
 *   0x04 host unreachable                  EHOSTUNREACH
 *   0x05 connection refused                ECONNREFUSED
 *   0x06 TTL expired                       ETIMEDOUT
 *
 * All other replies, 0x07 (command not supported) and 0x08 (address type not supported) among them,
 * say that the upstream does not serve this request: a proxy without IPv6 serves other ones. If it
 * refuses user and password, it serves nothing (HANDSHAKE_UNUSABLE).
 *
 * Each answer of the server consists of parts whose length is known when the part begins. The state
 * counts the bytes of the part that are still to come, so an answer may arrive in pieces of any
 * size, and the length of BND.ADDR is what its type says. The address itself is not used. The least
 * that may still come is known too (least_left()), so the driver need not peek.
 *
 * Without credentials one method is offered, "none". With credentials the server chooses between
 * "none" and "user and password": one that asks only some of its clients for a password works too.
 */
#include "handshake.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "protocol.h"
#include "secret.h"
#include "upstream.h"
#include "util.h"

#define VERSION		5
#define AUTH_VERSION	1
#define COMMAND_CONNECT 1

enum method {
	METHOD_NONE = 0,
	METHOD_PASSWORD = 2,
	METHOD_NOT_ACCEPTABLE = 0xff,
};

enum address_type {
	ADDRESS_IPV4 = 1,
	ADDRESS_NAME = 3,
	ADDRESS_IPV6 = 4,
};

/* What the next byte is. */
enum stage {
	STAGE_GREETING, /* nothing was sent yet */
	STAGE_METHOD_VERSION,
	STAGE_METHOD,
	STAGE_AUTH_VERSION,
	STAGE_AUTH_STATUS,
	STAGE_REPLY_VERSION,
	STAGE_REPLY,
	STAGE_RESERVED,
	STAGE_ADDRESS_TYPE,
	STAGE_NAME_LENGTH,
	STAGE_ADDRESS, /* and the port */
	STAGE_DONE,
};

struct socks5 {
	enum stage stage;
	bool asked;	   /* the request is sent */
	unsigned int left; /* STAGE_ADDRESS: bytes that are still to come */
};

static const struct {
	int error; /* 0: the upstream does not serve this request */
	const char *why;
} replies[] = {
	[1] = { EHOSTUNREACH, "SOCKS5: general failure" },
	[2] = { EACCES, "SOCKS5: not allowed by the proxy's rules" },
	[3] = { ENETUNREACH, "SOCKS5: network unreachable" },
	[4] = { EHOSTUNREACH, "SOCKS5: host unreachable" },
	[5] = { ECONNREFUSED, "SOCKS5: connection refused" },
	[6] = { ETIMEDOUT, "SOCKS5: TTL expired" },
	[7] = { 0, "SOCKS5: the proxy does not support CONNECT" },
	[8] = { 0, "SOCKS5: the proxy does not support this type of address" },
};

static enum handshake_result refused(uint8_t reply, struct handshake_io *io)
{
	if (reply >= ARRAY_SIZE(replies))
		return protocol_decline(io, EPROTO, "SOCKS5: unknown reply %u", reply);
	if (!replies[reply].error)
		return protocol_decline(io, EPROTO, "%s", replies[reply].why);
	return protocol_refuse(io, replies[reply].error, "%s", replies[reply].why);
}

static void put(struct handshake_io *io, const void *data, size_t len)
{
	memcpy(io->out + io->out_len, data, len);
	io->out_len += len;
}

static void put_byte(struct handshake_io *io, uint8_t byte)
{
	put(io, &byte, 1);
}

static bool has_credentials(const struct handshake_target *target)
{
	return *target->upstream->user != '\0';
}

static void put_address(const union sockaddr_any *dst, struct handshake_io *io)
{
	if (dst->sa.sa_family == AF_INET) {
		put_byte(io, ADDRESS_IPV4);
		put(io, &dst->in.sin_addr, sizeof(dst->in.sin_addr));
	} else if (IN6_IS_ADDR_V4MAPPED(&dst->in6.sin6_addr)) {
		put_byte(io, ADDRESS_IPV4);
		put(io, dst->in6.sin6_addr.s6_addr + 12, sizeof(dst->in.sin_addr));
	} else {
		put_byte(io, ADDRESS_IPV6);
		put(io, &dst->in6.sin6_addr, sizeof(dst->in6.sin6_addr));
	}
}

static void put_request(struct socks5 *socks, const struct handshake_target *target,
			struct handshake_io *io)
{
	const union sockaddr_any *dst = target->dst;
	const char *name = protocol_name(target);
	/* The port is at the same offset in both families. */
	const in_port_t port = dst->in.sin_port;

	put(io, (const uint8_t[]){ VERSION, COMMAND_CONNECT, 0 }, 3);
	if (name) {
		const size_t len = strlen(name);

		put_byte(io, ADDRESS_NAME);
		put_byte(io, (uint8_t)len);
		put(io, name, len);
	} else {
		put_address(dst, io);
	}
	put(io, &port, sizeof(port));
	socks->asked = true;
}

/* Returns AGAIN, or that user or password have no form that RFC 1929 can carry. */
static enum handshake_result put_password(const struct handshake_target *target,
					  struct handshake_io *io)
{
	const struct upstream_conf *conf = target->upstream;
	const size_t user_len = strlen(conf->user);
	const uint8_t *password = NULL;
	size_t len = 0;

	if (conf->secret)
		password = secret_bytes(conf->secret, &len);
	if (user_len > 255 || len < 1 || len > 255)
		return protocol_break(io, EINVAL, "SOCKS5: user and password need 1 to 255 bytes");
	put_byte(io, AUTH_VERSION);
	put_byte(io, (uint8_t)user_len);
	put(io, conf->user, user_len);
	put_byte(io, (uint8_t)len);
	put(io, password, len);
	return HANDSHAKE_AGAIN;
}

static void greet(struct socks5 *socks, const struct handshake_target *target,
		  struct handshake_io *io)
{
	if (has_credentials(target)) {
		put(io, (const uint8_t[]){ VERSION, 2, METHOD_NONE, METHOD_PASSWORD }, 4);
	} else {
		put(io, (const uint8_t[]){ VERSION, 1, METHOD_NONE }, 3);
		if (target->upstream->pipeline)
			put_request(socks, target, io);
	}
	socks->stage = STAGE_METHOD_VERSION;
}

/* The server requires no more of us: the reply comes next. */
static enum handshake_result accepted(struct socks5 *socks, const struct handshake_target *target,
				      struct handshake_io *io)
{
	if (!socks->asked)
		put_request(socks, target, io);
	socks->stage = STAGE_REPLY_VERSION;
	io->accepted = true;
	return HANDSHAKE_AGAIN;
}

static enum handshake_result method_chosen(struct socks5 *socks, uint8_t method,
					   const struct handshake_target *target,
					   struct handshake_io *io)
{
	enum handshake_result result;

	if (method == METHOD_NOT_ACCEPTABLE)
		return protocol_break(io, EACCES, "SOCKS5: %s",
				      has_credentials(target)
					      ? "the proxy accepts no password"
					      : "the proxy requires a user and a password");
	if (method == METHOD_NONE)
		return accepted(socks, target, io);
	if (method != METHOD_PASSWORD || !has_credentials(target))
		return protocol_break(io, EPROTO,
				      "SOCKS5: the proxy chose method %u, which was not offered",
				      method);
	result = put_password(target, io);
	if (result != HANDSHAKE_AGAIN)
		return result;
	/* If the password is refused, the server closes and ignores the request. */
	if (target->upstream->pipeline)
		put_request(socks, target, io);
	socks->stage = STAGE_AUTH_VERSION;
	return HANDSHAKE_AGAIN;
}

static enum handshake_result address_type(struct socks5 *socks, uint8_t type,
					  struct handshake_io *io)
{
	const unsigned int port_len = 2;

	socks->stage = STAGE_ADDRESS;
	switch (type) {
	case ADDRESS_IPV4:
		socks->left = 4 + port_len;
		return HANDSHAKE_AGAIN;
	case ADDRESS_IPV6:
		socks->left = 16 + port_len;
		return HANDSHAKE_AGAIN;
	case ADDRESS_NAME:
		socks->stage = STAGE_NAME_LENGTH;
		return HANDSHAKE_AGAIN;
	default:
		return protocol_break(io, EPROTO, "SOCKS5: unknown type of address %u", type);
	}
}

static enum handshake_result next_byte(struct socks5 *socks, uint8_t byte,
				       const struct handshake_target *target,
				       struct handshake_io *io)
{
	switch (socks->stage) {
	case STAGE_METHOD_VERSION:
	case STAGE_REPLY_VERSION:
		if (byte != VERSION)
			return protocol_break(io, EPROTO, "not a SOCKS5 server");
		socks->stage++;
		return HANDSHAKE_AGAIN;
	case STAGE_METHOD:
		return method_chosen(socks, byte, target, io);
	case STAGE_AUTH_VERSION: /* RFC 1929: 1; some servers send that of SOCKS */
		if (byte != AUTH_VERSION && byte != VERSION)
			return protocol_break(io, EPROTO, "not a SOCKS5 server");
		socks->stage = STAGE_AUTH_STATUS;
		return HANDSHAKE_AGAIN;
	case STAGE_AUTH_STATUS:
		if (byte != 0)
			return protocol_break(io, EACCES, "SOCKS5: user or password refused");
		return accepted(socks, target, io);
	case STAGE_REPLY:
		/* A server may close after this byte, so the rest is not waited for. */
		if (byte != 0)
			return refused(byte, io);
		socks->stage = STAGE_RESERVED;
		return HANDSHAKE_AGAIN;
	case STAGE_RESERVED:
		socks->stage = STAGE_ADDRESS_TYPE;
		return HANDSHAKE_AGAIN;
	case STAGE_ADDRESS_TYPE:
		return address_type(socks, byte, io);
	case STAGE_NAME_LENGTH:
		socks->left = byte + 2U;
		socks->stage = STAGE_ADDRESS;
		return HANDSHAKE_AGAIN;
	case STAGE_ADDRESS:
		if (--socks->left > 0)
			return HANDSHAKE_AGAIN;
		socks->stage = STAGE_DONE;
		return HANDSHAKE_DONE;
	default:
		return protocol_break(io, EPROTO, "SOCKS5: bytes out of order");
	}
}

/* True if an answer has begun. Each begins with its version. */
static bool is_within_answer(const struct socks5 *socks)
{
	return socks->stage != STAGE_METHOD_VERSION && socks->stage != STAGE_AUTH_VERSION &&
	       socks->stage != STAGE_REPLY_VERSION;
}

/* Returns how many bytes of this answer must still come, at least. */
static size_t least_left(const struct socks5 *socks)
{
	/* A reply is shortest with an empty name: a byte for its length, and the port. */
	static const uint8_t left[] = {
		[STAGE_METHOD_VERSION] = 2, [STAGE_METHOD] = 1,	       [STAGE_AUTH_VERSION] = 2,
		[STAGE_AUTH_STATUS] = 1,    [STAGE_REPLY_VERSION] = 7, [STAGE_REPLY] = 6,
		[STAGE_RESERVED] = 5,	    [STAGE_ADDRESS_TYPE] = 4,  [STAGE_NAME_LENGTH] = 3,
	};

	return socks->stage < ARRAY_SIZE(left) ? left[socks->stage] : socks->left;
}

static enum handshake_result socks5_step(void *state, const struct handshake_target *target,
					 struct handshake_io *io)
{
	struct socks5 *socks = state;
	enum handshake_result result = HANDSHAKE_AGAIN;

	if (socks->stage == STAGE_GREETING)
		greet(socks, target, io);
	while (result == HANDSHAKE_AGAIN && io->taken < io->in_len)
		result = next_byte(socks, io->in[io->taken++], target, io);
	io->least = least_left(socks);
	io->partial = is_within_answer(socks);
	return result;
}

const struct handshake_ops socks5_ops = {
	.name = "SOCKS5",
	.state_size = sizeof(struct socks5),
	.answers_first = true,
	.step = socks5_step,
};
