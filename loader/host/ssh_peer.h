/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The other end of the ssh session in which this process runs. */
#ifndef TPROXY_HOST_SSH_PEER_H
#define TPROXY_HOST_SSH_PEER_H

#include <stdbool.h>

#include "tproxy_abi.h"

struct ssh_peer {
	struct tproxy_endpoint addr; /* of the ssh client, as this host sees it */
	bool alive; /* a TCP connection from there is established, in this network namespace */
};

/*
 * Finds the peer: in SSH_CONNECTION of this process, or of one of its ancestors, because sudo
 * removes it from the environment; else as the peer of a connection of the sshd among them. Returns
 * true and sets *ret_peer, or false if this is no ssh session. In a terminal multiplexer the
 * variable may be that of an earlier session, whose connection is closed.
 */
bool ssh_peer_find(struct ssh_peer *ret_peer);

/* Reads the value of SSH_CONNECTION: "PEER PORT LOCAL PORT". For the unit test. */
bool ssh_peer_parse(const char *value, struct tproxy_endpoint *ret_addr);

#endif
