// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See protocol.h. */
#include "protocol.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum handshake_result protocol_refuse(struct handshake_io *io, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(io->why, sizeof(io->why), format, args);
	va_end(args);
	io->error = error;
	return HANDSHAKE_ERROR;
}

enum handshake_result protocol_break(struct handshake_io *io, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(io->why, sizeof(io->why), format, args);
	va_end(args);
	io->error = error;
	return HANDSHAKE_UNUSABLE;
}

enum handshake_result protocol_decline(struct handshake_io *io, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(io->why, sizeof(io->why), format, args);
	va_end(args);
	io->error = error;
	return HANDSHAKE_NOT_SERVED;
}

const char *protocol_name(const struct handshake_target *target)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
	const char *name = target->name;
	size_t len;

	if (!name)
		return NULL;
	len = strlen(name);
	return len > 0 && len <= 255 && strspn(name, allowed) == len ? name : NULL;
}
