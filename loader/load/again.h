/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tproxy-load --again: takes the options of the previous load from the pinned maps. */
#ifndef TPROXY_LOAD_AGAIN_H
#define TPROXY_LOAD_AGAIN_H

struct load_options;

/*
 * Fills *ret_options with the policy, the relay group and the cgroups of what is loaded in
 * given->pin_dir. Adds the cgroups of @given, and takes force and verbose from there. Returns 0;
 * the caller frees *ret_options with load_options_finish(). Returns -errno, logged, also if nothing
 * is loaded.
 */
int again_options(const struct load_options *given, struct load_options *ret_options);

#endif
