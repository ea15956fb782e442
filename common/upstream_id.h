/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names of upstreams, the servers through which a relay sends connections. A relay's configuration
 * defines the names, a rule refers to them (`redirect ... via NAME`). The kernel half carries the
 * id of a name, from the rule to the relay.
 */
#ifndef TPROXY_UPSTREAM_ID_H
#define TPROXY_UPSTREAM_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

/* Room for a name and its NUL. */
#define UPSTREAM_NAME_LEN TPROXY_UPSTREAM_NAME_LEN

/* Built in: the connection goes to its original destination. No section can define it. */
#define UPSTREAM_NAME_DIRECT "direct"

#define UPSTREAM_NAME_EXPECTED "the name of an upstream, of letters, digits and \"_-\", at most 31"

/* Returns true if the len bytes are a valid name: 1 to 31 characters of [A-Za-z0-9_-]. */
bool upstream_name_is_valid(const char *name, size_t len);

/* Returns the id of a name, its 32-bit FNV-1a hash, never 0. The same in all versions. */
uint32_t upstream_id(const char *name);

#endif
