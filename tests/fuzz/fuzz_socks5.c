// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A SOCKS5 server that answers anything. The outcome does not depend on the pieces in which it
 * comes, and a handshake that is done took exactly the messages of the RFCs.
 */
#include "fuzz.h"

#include "../../proxy/upstream/protocol.c"
#include "../../proxy/upstream/socks5.c"

#include "protocol.h"

/* Returns the length of the server's messages at in, or 0: they are not those of success. */
static size_t success(const uint8_t *in, size_t len)
{
	size_t off = 2, bound;

	if (len < 2 || in[0] != 5)
		return 0;
	if (in[1] == 2) {
		if (len < 4 || in[3] != 0)
			return 0;
		off = 4;
	} else if (in[1] != 0) {
		return 0;
	}
	in += off;
	len -= off;
	if (len < 5 || in[0] != 5 || in[1] != 0)
		return 0;
	bound = in[3] == 1 ? 4 : in[3] == 3 ? 1U + in[4] : in[3] == 4 ? 16 : 0;
	return bound && len >= 4 + bound + 2 ? off + 4 + bound + 2 : 0;
}

static void check(const uint8_t *in, size_t len, const struct outcome *o)
{
	const size_t n = success(in, len);

	if (o->result == HANDSHAKE_DONE) {
		require(n > 0 && o->taken == n);
		require(o->out_len >= 3 + 10 && o->out[0] == 5);
	}
	if (o->result == HANDSHAKE_ERROR)
		require(o->error != EPROTO);
	/* Method 2 without credentials is refused. */
	if (n > 0 && in[1] == 0)
		require(o->result == HANDSHAKE_DONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_protocol(&socks5_ops, data, size, check);
}
