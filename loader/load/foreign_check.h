/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Refuses a load that would stop a foreign program. */
#ifndef TPROXY_LOAD_FOREIGN_CHECK_H
#define TPROXY_LOAD_FOREIGN_CHECK_H

#include <stdbool.h>

struct pins;
struct targets;

/*
 * Looks at all targets, for each hook that is wanted there. Returns 0, or -EPERM if there is such a
 * program. It is logged with the command that fixes it. With @force, and where tproxy's program is
 * attached already, it is a warning.
 */
int foreign_check(const struct pins *pins, const struct targets *targets, bool force);

#endif
