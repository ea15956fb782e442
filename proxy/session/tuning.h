/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The options of the server's socket of a session that lasts. Nothing here logs or fails. */
#ifndef TPROXY_TUNING_H
#define TPROXY_TUNING_H

#include <stdbool.h>

struct tproxy_conn;

/*
 * Copies to upstream_fd the options that the client set on its own socket before connect(). Returns
 * true if these include keepalive.
 */
bool tuning_pass_options_on(int client_fd, int upstream_fd);
/* The same for a record of the kernel half that the caller has already. */
bool tuning_pass_options_of(const struct tproxy_conn *conn, int upstream_fd);

/* True if an option of the client may have ended connect() of upstream_fd with ETIMEDOUT: this says
 * nothing about the destination. */
bool tuning_limits_connect(int upstream_fd);

/* Sets keepalive with TCP_KEEPIDLE idle_s; 0: none. */
void tuning_set_keepidle(int upstream_fd, int idle_s);

#endif
