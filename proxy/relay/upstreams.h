/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The set of upstreams of this relay, and the resolver of their names. Main thread. */
#ifndef TPROXY_RELAY_UPSTREAMS_H
#define TPROXY_RELAY_UPSTREAMS_H

struct options;
struct relay;

/*
 * Makes the set that the options describe: reads passwords and certificates that are not read yet,
 * starts the resolver if a name needs it. The set takes over options->upstreams, and replaces
 * relay->upstreams, if there is one. Workers that exist get it; sessions under way keep the one
 * that they began with. Returns 0, or -errno, logged: then the set before stays.
 */
int relay_upstreams_set(struct relay *relay, struct options *options);

/*
 * Has the resolver mark its sockets in the maps of relay->reg, which have changed. Returns 0 or
 * -errno, logged.
 */
int relay_upstreams_mark(struct relay *relay);

/* Call it when no worker is left. */
void relay_upstreams_end(struct relay *relay);

/*
 * Reads the passwords and the certificates that the options name, and keeps them in the options.
 * relay_upstreams_set() then opens no file of theirs. For --check, and for the supervisor: its
 * children inherit what it has read. Call relay_upstreams_drop() before options_finish(). Returns 0
 * or the first -errno; all mistakes are logged.
 */
int relay_upstreams_read(struct options *options);
/* Frees the certificates that relay_upstreams_read() has kept in the options. */
void relay_upstreams_drop(struct options *options);
/* For --check by root: prints which user each password file is for. The relay has another user. */
void relay_upstreams_print_owners(const struct options *options);

#endif
