/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* SIGHUP: reads the configuration again and reopens log files. Main thread. */
#ifndef TPROXY_RELOAD_H
#define TPROXY_RELOAD_H

struct relay;

/* Adds the event of SIGHUP. Returns 0 or -ENOMEM. */
int reload_init(struct relay *relay);

#endif
