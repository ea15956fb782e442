/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What tproxy-load --follow does for the block list. */
#ifndef TPROXY_LOAD_FOLLOW_BLOCK_H
#define TPROXY_LOAD_FOLLOW_BLOCK_H

/*
 * Removes entries that have ended, and detaches the hooks with the last one. Takes a list back that
 * nobody confirmed, if no process waits for that. If there is nothing to do, it takes no lock and
 * reads one entry. Returns 0 or -errno, logged.
 */
int follow_block(const char *pin_dir);

#endif
