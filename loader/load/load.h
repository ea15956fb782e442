/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The load and check modes of tproxy-load, see load.c for the steps. */
#ifndef TPROXY_LOAD_LOAD_H
#define TPROXY_LOAD_LOAD_H

struct load_options;

/*
 * Loads, pins and attaches as @options say. What is loaded in that pin directory already is brought
 * to the same state in place. Returns 0 or -errno, logged. After a failed first load nothing is
 * left.
 */
int load(const struct load_options *options);

/*
 * Checks that load() would find its cgroups and could use the pin directory. Changes nothing.
 * Returns 0 or -errno, logged.
 */
int load_check(const struct load_options *options);

#endif
