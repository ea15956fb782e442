/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef TPROXY_LOADER_UNLOAD_H
#define TPROXY_LOADER_UNLOAD_H

struct pins;

/* Detaches and removes all of ours in the pin directory at path. 0 also if nothing is there. */
int unload(const char *path);

/* Detaches one pinned link, at once, whoever else may hold it open, and removes the pin. */
int unload_link(const struct pins *pins, const char *name);

#endif
