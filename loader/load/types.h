/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The types of the inner maps of rules and of the block list, for a process that replaces these
 * without loading the programs. A new inner map needs the BTF of its types. The kernel gives that
 * of an existing map with CAP_SYS_ADMIN only, so the BTF of the object is loaded again, which takes
 * CAP_BPF.
 */
#ifndef TPROXY_LOAD_TYPES_H
#define TPROXY_LOAD_TYPES_H

#include "state/inner_maps.h"

struct tproxy_bpf;

struct types {
	struct tproxy_bpf *skel;
	struct inner_map_types rules, sets, block;
};

/* Returns 0 or -errno, logged. The caller calls types_close(), after a failure too. */
int types_open(struct types *types);
void types_close(struct types *types);

#endif
