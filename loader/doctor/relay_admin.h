/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The admin address of a registered relay (--admin). It is found among the sockets that the relay
 * holds, so nobody has to tell it. A UNIX socket is reached through the relay's root directory, and
 * asked only if the relay itself has called listen(2) on it: another one may have its path by now.
 */
#ifndef TPROXY_DOCTOR_RELAY_ADMIN_H
#define TPROXY_DOCTOR_RELAY_ADMIN_H

struct tproxy_relay;

/*
 * Asks the relay for one document, see admin_client_ask(). Returns -ENOENT if the relay has no
 * admin address that can be reached from here. This process must be in the initial PID namespace.
 */
int relay_admin_get(const struct tproxy_relay *relay, const char *document, char **ret_body);

#endif
