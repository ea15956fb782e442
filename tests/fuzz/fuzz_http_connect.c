// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * An HTTP proxy that answers anything. The outcome does not depend on the pieces in which it comes.
 * A handshake that is done took all up to the first blank line after a 2xx, and no more than the
 * limit.
 */
#include "fuzz.h"

#include "../../proxy/upstream/protocol.c"
#include "../../proxy/upstream/http_connect.c"

#include "protocol.h"

static void check_request(const struct outcome *o)
{
	static const char begin[] = "CONNECT ", end[] = "\r\n\r\n";

	require(o->out_len > sizeof(begin) + sizeof(end));
	require(memcmp(o->out, begin, sizeof(begin) - 1) == 0);
	require(memcmp(o->out + o->out_len - 4, end, 4) == 0);
	/* The blank line is the only one. */
	require((uint8_t *)memmem(o->out, o->out_len, end, 4) == o->out + o->out_len - 4);
	require(!memchr(o->out, '\0', o->out_len));
}

/* Returns the length of the answers up to the first final one that opens the tunnel, or 0. */
static size_t success(const uint8_t *in, size_t len)
{
	size_t begin = 0, line = 0;

	for (size_t i = 0; i < len; i++) {
		const bool blank = i == line || (i == line + 1 && in[line] == '\r');

		if (in[i] != '\n')
			continue;
		line = i + 1;
		if (!blank)
			continue;
		if (in[begin + 9] == '2')
			return line;
		if (in[begin + 9] != '1')
			return 0;
		begin = line;
	}
	return 0;
}

static void check(const uint8_t *in, size_t len, const struct outcome *o)
{
	check_request(o);
	if (o->result == HANDSHAKE_AGAIN)
		require(len <= ANSWER_MAX);
	if (o->result != HANDSHAKE_DONE)
		return;
	require(o->taken <= ANSWER_MAX && o->taken >= sizeof("HTTP/1.1 200\n\n") - 1);
	require(memcmp(in, "HTTP/1.", 7) == 0);
	require(o->taken == success(in, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_protocol(&http_connect_ops, data, size, check);
}
