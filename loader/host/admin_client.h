/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Asks a relay's admin address (proxy/admin/server.h) for one document. */
#ifndef TPROXY_HOST_ADMIN_CLIENT_H
#define TPROXY_HOST_ADMIN_CLIENT_H

/*
 * @address: the path of a UNIX socket, or ADDR:PORT. Sets *ret_body to the body of the answer,
 * which the caller frees. Returns 0; -EINVAL if @address is neither; -EPROTO if the answer is no
 * document; -ETIMEDOUT if it does not come within some seconds; or another -errno. Nothing is
 * logged.
 */
int admin_client_get(const char *address, const char *document, char **ret_body);

#endif
