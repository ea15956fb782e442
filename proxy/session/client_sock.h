/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The options of the relay's socket to a client, whether it was accepted or has joined (join.h). */
#ifndef TPROXY_CLIENT_SOCK_H
#define TPROXY_CLIENT_SOCK_H

/*
 * Sets the options on a listener, whose accepted sockets inherit them, or on a socket that is to
 * join a client. Before listen() or connect(). Failures are ignored.
 */
void client_sock_prepare(int fd);

#endif
