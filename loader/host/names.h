/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names of cgroups, users and groups for people to read, in printable ASCII. Each returns a text
 * that the caller frees, or NULL without memory.
 */
#ifndef TPROXY_HOST_NAMES_H
#define TPROXY_HOST_NAMES_H

#include <stdint.h>

/*
 * Returns the path of the cgroup with this id. Returns "(id N, removed)" if there is none, "(id N,
 * not visible here)" if the mount of cgroup2 does not show it, and "(id N, ERROR)" if it cannot be
 * resolved, which takes CAP_DAC_READ_SEARCH.
 */
char *names_cgroup(uint64_t id);

/* Return the name of a user or group, such as "root" for 0, or its number if it has no name. */
char *names_user(uint64_t uid);
char *names_group(uint64_t gid);

#endif
