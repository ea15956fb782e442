/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tproxy-relay --check, and what is checked at each start. */
#ifndef TPROXY_CHECK_H
#define TPROXY_CHECK_H

struct options;

/*
 * Of options that are well-formed: can this process have the addresses that it is to listen on,
 * and what else they want? Prints that all is good, or logs what is not. 0 or -errno.
 */
int check_options(const struct options *options);

/*
 * With --pass-mark: may this process mark a socket? It tries, and logs why not. Not to be found out
 * with the first client. 0 or -errno.
 */
int check_mark(const struct options *options);

#endif
