/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef TPROXY_LOADER_LOAD_H
#define TPROXY_LOADER_LOAD_H

struct options;

/*
 * Loads, pins and attaches as options say, and brings what is loaded already into that state.
 * 0 or -errno; what is wrong has been logged. After a failure of a first load nothing is left.
 */
int load(const struct options *options);

/* Finds out whether load() would find its cgroups, and changes nothing. 0 or -errno, logged. */
int load_check(const struct options *options);

#endif
