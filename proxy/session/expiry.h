/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a session whose timeout has expired may end, and whether one of its sides was reset. */
#ifndef TPROXY_EXPIRY_H
#define TPROXY_EXPIRY_H

#include <stdbool.h>

struct session;

/*
 * The timeout of s, or a part of it (deadline_queue::parts), has expired. Returns false if the
 * interval must start again: there was progress (progress.h), or an I/O event is pending.
 */
bool expiry_is_over(struct session *s);

enum expiry_reset {
	RESET_NONE,
	RESET_OF_CLIENT,
	RESET_OF_SERVER,
};

/* Checks whether a side has been reset. Level-triggered events do not report that if the side is
 * not read from. */
enum expiry_reset expiry_find_reset(const struct session *s);

#endif
