/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tproxy-relay --check, and the checks at each start. Main thread. */
#ifndef TPROXY_CHECK_H
#define TPROXY_CHECK_H

struct options;

/*
 * Checks, for well-formed options, that this process may bind the addresses of --listen, that it
 * can read the passwords and certificates of upstreams, and that check_mark() succeeds. Prints a
 * line to stdout if all is good, otherwise logs each error. Returns 0 or the first -errno.
 */
int check_options(struct options *options);

/*
 * With --pass-mark, tries to set SO_MARK on a socket, so that a missing capability shows at the
 * start and not with the first client. Returns 0 or -errno, logged.
 */
int check_mark(const struct options *options);

#endif
