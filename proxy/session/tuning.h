/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The options of the server's socket of a session that lasts. Nothing here logs or fails. */
#ifndef TPROXY_TUNING_H
#define TPROXY_TUNING_H

struct session;

/* Copies to it the options that the client set on its own socket before connect(). */
void tuning_pass_options_on(struct session *s);

/* Applies worker::keepidle_s, unless the client has set keepalive itself. */
void tuning_set_keepidle(struct session *s);

#endif
