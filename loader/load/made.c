// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the pins that this run has created, see made.h. The list is allocated before the
 * first pin, with room for every pin that a load can create. So to note a pin cannot fail.
 */
#include "made.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int made_init(struct made *made, size_t most)
{
	made->names = calloc(most, sizeof(*made->names));
	return made->names ? 0 : -ENOMEM;
}

void made_finish(struct made *made)
{
	free(made->names);
}

void made_note(struct made *made, const char *name)
{
	snprintf(made->names[made->n++], PINS_LINK_LEN, "%s", name);
}

const char *made_take_newest(struct made *made)
{
	return made->n > 0 ? made->names[--made->n] : NULL;
}
