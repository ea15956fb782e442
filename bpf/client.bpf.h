/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The record of a redirected connection, from the side of the client's socket: made by connect,
 * published by sockops, forgotten when the socket is closed.
 */
#ifndef TPROXY_CLIENT_BPF_H
#define TPROXY_CLIENT_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "tproxy_abi.h"
#include "base.bpf.h"
#include "maps.bpf.h"

/*
 * Deletes what is known of a client's socket. map_ports goes first, see its comment. The tuple may
 * belong to another socket by now, so only an entry that names this one is deleted.
 */
static __always_inline void client_forget(struct client *client, __u64 cookie)
{
	__u64 *owner;

	if (client->published) {
		owner = bpf_map_lookup_elem(&map_ports, &client->tuple);
		if (owner && *owner == cookie)
			bpf_map_delete_elem(&map_ports, &client->tuple);
		client->published = 0;
	}
	if (client->recorded) {
		bpf_map_delete_elem(&map_socks, &cookie);
		client->recorded = 0;
	}
}

#endif
