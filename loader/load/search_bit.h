/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The search bit for others on the parent of the pin directory. systemd mounts the BPF file system
 * with mode 0700, which keeps the relay group from the pin directory. Functions here use pins->path
 * only.
 */
#ifndef TPROXY_LOAD_SEARCH_BIT_H
#define TPROXY_LOAD_SEARCH_BIT_H

#include <stdbool.h>

struct pins;

/*
 * Returns true if the parent is in a BPF file system, and others have no search permission on it.
 */
bool search_bit_is_missing(const struct pins *pins);

/*
 * Sets the bit, and nothing else. The caller records that in tproxy_policy.opened_bpffs first.
 * Returns 0 or -errno, logged.
 */
int search_bit_set(const struct pins *pins);

/*
 * Clears the bit, unless another pin directory beside this one needs it. The policy of that
 * directory then records that the bit is cleared when that directory is unloaded. A failure to
 * clear it is a warning.
 */
void search_bit_clear(const struct pins *pins);

#endif
