/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Asks a relay's admin address (proxy/admin/server.h) for one document. */
#ifndef TPROXY_HOST_ADMIN_CLIENT_H
#define TPROXY_HOST_ADMIN_CLIENT_H

/*
 * Connects to @address: the path of a UNIX socket, or ADDR:PORT. Returns a descriptor with limits
 * of time, which the caller closes; -EINVAL if @address is neither; -ETIMEDOUT if nobody accepts
 * within some seconds; or another -errno. Nothing is logged.
 */
int admin_client_connect(const char *address);

/*
 * Asks over this connection, which is of no use after that. Sets *ret_body to the body of the
 * answer, which the caller frees. Returns 0; -EPROTO if the answer is no document; -ETIMEDOUT if it
 * does not come within some seconds; or another -errno. Nothing is logged.
 */
int admin_client_ask(int fd, const char *document, char **ret_body);

/* Both. */
int admin_client_get(const char *address, const char *document, char **ret_body);

#endif
