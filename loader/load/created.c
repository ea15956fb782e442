// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: the pins that this run has created, see created.h. The list is allocated before the
 * first pin, with room for every pin that a load can create. Noting a pin therefore cannot fail.
 */
#include "created.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int created_init(struct created *created, size_t most)
{
	created->names = calloc(most, sizeof(*created->names));
	return created->names ? 0 : -ENOMEM;
}

void created_finish(struct created *created)
{
	free(created->names);
}

void created_add(struct created *created, const char *name)
{
	snprintf(created->names[created->n++], PINS_LINK_LEN, "%s", name);
}

const char *created_take_newest(struct created *created)
{
	return created->n > 0 ? created->names[--created->n] : NULL;
}
