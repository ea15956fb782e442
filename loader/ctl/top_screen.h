/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The screen of `tproxyctl top`, built with ncurses only. */
#ifndef TPROXY_CTL_TOP_SCREEN_H
#define TPROXY_CTL_TOP_SCREEN_H

struct top;

/* Shows the screen until the user quits. Returns the exit status; a failure is logged. */
int top_screen(struct top *top);

#endif
