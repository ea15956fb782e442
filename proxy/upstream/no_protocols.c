// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Stands in for protocols that are not written yet. */
#include <errno.h>

#include "handshake.h"

static enum handshake_result step(void *state, const struct handshake_target *target,
				  struct handshake_io *io)
{
	io->error = EPROTONOSUPPORT;
	return HANDSHAKE_UNUSABLE;
}

__attribute__((weak)) const struct handshake_ops socks5_ops = { .name = "", .step = step };
__attribute__((weak)) const struct handshake_ops http_connect_ops = { .name = "", .step = step };
__attribute__((weak)) const struct handshake_ops proxy_header_ops = { .name = "", .step = step };
