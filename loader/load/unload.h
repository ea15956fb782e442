/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tproxy-load --unload. */
#ifndef TPROXY_LOAD_UNLOAD_H
#define TPROXY_LOAD_UNLOAD_H

/*
 * Detaches and removes all pins of tproxy in the pin directory @path, and the directory. Foreign
 * pins stay, and with them the directory: -EEXIST. Returns 0, also if the directory does not exist,
 * or -errno, logged.
 */
int unload(const char *path);

#endif
