/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The policy of a load, which is the one entry of map_policy. */
#ifndef TPROXY_STATE_POLICY_H
#define TPROXY_STATE_POLICY_H

struct tproxy_policy;

/* Return 0 or -errno, not logged. */
int policy_read(int map_fd, struct tproxy_policy *ret_policy);
int policy_write(int map_fd, const struct tproxy_policy *policy);
/* Opens map_policy in @pin_dir first; errors as of bpffs_open_map(). */
int policy_read_pinned(const char *pin_dir, struct tproxy_policy *ret_policy);

#endif
