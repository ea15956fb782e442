/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The pins that this run of tproxy-load has created. A failed load removes them, newest first. */
#ifndef TPROXY_LOAD_CREATED_H
#define TPROXY_LOAD_CREATED_H

#include <stddef.h>

#include "state/pins.h"

struct created {
	char (*names)[PINS_LINK_LEN]; /* oldest first */
	size_t n;
};

/* *created must be zeroed. Makes room for @most names. Returns 0 or -ENOMEM, not logged. */
int created_init(struct created *created, size_t most);
/* Frees the list. A zeroed one is accepted. */
void created_finish(struct created *created);

/* Records that this run created a pin. The list must have room for it. */
void created_add(struct created *created, const char *name);

/* Takes the newest name off the list. Returns NULL if the list is empty. */
const char *created_take_newest(struct created *created);

#endif
