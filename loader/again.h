/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tproxy-load --again: the options of the load before, as they are in the pins. */
#ifndef TPROXY_LOADER_AGAIN_H
#define TPROXY_LOADER_AGAIN_H

struct options;

/*
 * Policy, group and cgroups of what is loaded in given->pin_dir, and the cgroups that are given
 * beside it. 0: give *ret_options to options_finish(). -errno, logged; also if nothing is loaded.
 */
int again_options(const struct options *given, struct options *ret_options);

#endif
