/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The errnos that a configuration may name: those with which a client's connect() can fail. */
#ifndef TPROXY_ERRNO_NAME_H
#define TPROXY_ERRNO_NAME_H

/* Returns the errno with this name, such as "EACCES"; 0 if it is none of them. */
int errno_from_name(const char *name);

/* Writes their names: "ECONNREFUSED, EACCES, ... or EADDRNOTAVAIL". Returns buf. */
#define ERRNO_NAMES_LEN 160
char *errno_names(char buf[ERRNO_NAMES_LEN]);

#endif
