/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The pins that this run of tproxy-load has created. A failed load removes them, newest first. */
#ifndef TPROXY_LOAD_MADE_H
#define TPROXY_LOAD_MADE_H

#include <stddef.h>

#include "state/pins.h"

struct made {
	char (*names)[PINS_LINK_LEN]; /* oldest first */
	size_t n;
};

/* *made must be zeroed. Makes room for @most names. Returns 0 or -ENOMEM, not logged. */
int made_init(struct made *made, size_t most);
/* Frees the list. A zeroed one is accepted. */
void made_finish(struct made *made);

/* Records that this run created a pin. The list must have room for it. */
void made_note(struct made *made, const char *name);

/* Takes the newest name off the list. Returns NULL if the list is empty. */
const char *made_take_newest(struct made *made);

#endif
