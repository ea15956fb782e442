/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The redirected connections, as they are in map_socks. The map changes while it is read. It is
 * read bucket by bucket (BPF_MAP_LOOKUP_BATCH), which visits each once whatever comes and goes, so
 * there is an end and nothing is there twice; a walk from key to key would start anew at each key
 * that went.
 */
#ifndef TPROXY_LOADER_CONNS_H
#define TPROXY_LOADER_CONNS_H

#include <stddef.h>

#include "tproxy_abi.h"

struct conns_entry {
	__u64 cookie; /* of the client's socket */
	struct tproxy_conn conn;
};

/* 0, or -errno. The caller frees *ret_entries. */
int conns_read(const char *pin_dir, struct conns_entry **ret_entries, size_t *ret_n);

#endif
