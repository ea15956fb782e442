/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef TPROXY_LOADER_STATUS_H
#define TPROXY_LOADER_STATUS_H

#include <stdbool.h>

/*
 * Prints what is loaded, attached, registered and counted, as text or as one JSON object. 0;
 * -ENOENT: nothing is loaded, which is said too; other -errno: logged.
 */
int status(const char *pin_dir, bool json);

#endif
