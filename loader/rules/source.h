/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The text of a rule file or list file, and the destination of the messages about it. */
#ifndef TPROXY_RULES_SOURCE_H
#define TPROXY_RULES_SOURCE_H

#include "message.h"

struct source {
	const char *file; /* for messages */
	const char *text; /* may have NULs; nothing follows */
	size_t len;
	struct rules_messages *messages;
};

/* Add a message about a place, with its line. */
void source_error(const struct source *source, struct rules_place at, const char *fmt, ...)
	_printf_(3, 4);
void source_note(const struct source *source, struct rules_place at, const char *fmt, ...)
	_printf_(3, 4);

#endif
