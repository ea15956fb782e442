/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The pinned links, which attach the programs to cgroups. */
#ifndef TPROXY_LOAD_LINKS_H
#define TPROXY_LOAD_LINKS_H

#include <stddef.h>

struct bpf_object;
struct created;
struct pins;
struct targets;

/* Functions here return 0 or -errno, logged. */

/*
 * Attaches the programs of @object to @targets, in the order of objects.h, and pins the links.
 * Links of an earlier load get the new programs. New pins are noted in *created.
 */
int links_attach(const struct bpf_object *object, const struct targets *targets,
		 const struct pins *pins, struct created *created);

/*
 * Detaches links of an earlier load that @targets do not want. Links that serve redirected
 * connections stay while there are any in map_socks, which is @socks_fd. *ret_kept gets the number
 * of those. Returns 0 or the first error, logged; the links after a failed one are detached too.
 */
int links_detach_stale(struct pins *pins, const struct targets *targets, int socks_fd,
		       size_t *ret_kept);

#endif
