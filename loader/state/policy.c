// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See policy.h. */
#include "policy.h"

#include <bpf/bpf.h>

#include "bpffs.h"
#include "tproxy_abi.h"
#include "util.h"

int policy_read(int map_fd, struct tproxy_policy *ret_policy)
{
	const __u32 key = 0;

	return bpf_map_lookup_elem(map_fd, &key, ret_policy);
}

int policy_write(int map_fd, const struct tproxy_policy *policy)
{
	const __u32 key = 0;

	return bpf_map_update_elem(map_fd, &key, policy, BPF_ANY);
}

int policy_read_pinned(const char *pin_dir, struct tproxy_policy *ret_policy)
{
	_cleanup_close_ int fd = -1;
	int r = bpffs_open_map(pin_dir, PINNED_POLICY, /* writable= */ false, &fd);

	return r < 0 ? r : policy_read(fd, ret_policy);
}
