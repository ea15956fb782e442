/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the protocols of handshakes share. */
#ifndef TPROXY_PROTOCOL_H
#define TPROXY_PROTOCOL_H

#include "handshake.h"
#include "util.h"

/*
 * The upstream says that the destination cannot be reached: error is the destination's errno. The
 * text is for the log. Returns the result of the step.
 */
enum handshake_result protocol_refuse(struct handshake_io *io, int error, const char *format, ...)
	_printf_(3, 4);

/* The upstream does not serve us, whatever the destination is; error is the upstream's errno. */
enum handshake_result protocol_break(struct handshake_io *io, int error, const char *format, ...)
	_printf_(3, 4);

/*
 * The upstream has answered that it does not serve this request. Another request may be served, so
 * it is no failure of the upstream. error is the upstream's errno.
 */
enum handshake_result protocol_decline(struct handshake_io *io, int error, const char *format, ...)
	_printf_(3, 4);

/*
 * Returns the name to ask the upstream for, or NULL: ask for the address. A name that is not of
 * letters, digits, '-', '_' and '.' is not sent, so it cannot add lines to a request.
 */
const char *protocol_name(const struct handshake_target *target);

#endif
