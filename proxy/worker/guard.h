/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps processes of other users from binding a port of the relay. A listener at a loopback address
 * alone does not, although its port is in use. Linux keeps one record of the last SO_REUSEPORT
 * socket of a port (inet_csk_update_fastreuse(), seen in 6.18). A user who binds the wildcard
 * address of the other family, which conflicts with nothing, gets into that record. For a second
 * socket of this user the kernel then compares with the record only, and lets it bind any address
 * of the port. From there it could connect to clients whose SYN is not answered yet.
 *
 * The guard is a socket of the relay at this wildcard address. It does not listen.
 */
#ifndef TPROXY_GUARD_H
#define TPROXY_GUARD_H

/*
 * Makes the guard of a listener's port. Returns a descriptor that the caller closes with the
 * listener, or -errno: -EAFNOSUPPORT without the other family, -EADDRINUSE if the address is in
 * use.
 */
int guard_open(int listen_fd);

#endif
