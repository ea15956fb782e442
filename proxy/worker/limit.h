/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The limit of sessions, of all workers together. Any thread. */
#ifndef TPROXY_LIMIT_H
#define TPROXY_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct session_limit {
	_Atomic uint32_t sessions; /* reserved ones and those that run */
	_Atomic uint32_t max;
};

/* Counts one more session, before accept(). Returns false, and counts none, at the limit. */
bool limit_reserve(struct session_limit *limit);
/* Gives the count back: the session has ended, or was not created. */
void limit_release(struct session_limit *limit);

#endif
