/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The keys of the screen of `tproxyctl top`. */
#ifndef TPROXY_CTL_TOP_KEYS_H
#define TPROXY_CTL_TOP_KEYS_H

struct top_screen;

/* Handles a key, as getch(3) returns it. */
void top_key(struct top_screen *s, int key);

#endif
