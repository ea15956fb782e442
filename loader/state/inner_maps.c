// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See inner_maps.h. */
#include "inner_maps.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdint.h>

#include "util.h"

/* Limit of entries for one system call. A signal can end the process between two calls. */
#define BATCH_MAX 16384

int inner_map_id(int outer_fd, uint32_t slot, uint32_t *ret_id)
{
	return bpf_map_lookup_elem(outer_fd, &slot, ret_id);
}

int inner_map_open(int outer_fd, uint32_t slot, int *ret_fd)
{
	uint32_t id;
	int fd, r;

	r = inner_map_id(outer_fd, slot, &id);
	if (r < 0)
		return r;
	fd = bpf_map_get_fd_by_id(id);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int inner_map_create(int like_fd, const struct inner_map_types *types, int *ret_fd)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .btf_fd = (__u32)types->btf_fd,
		    .btf_key_type_id = types->key_id, .btf_value_type_id = types->value_id);
	_cleanup_close_ int btf_fd = -1;
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	int fd, r;

	r = bpf_obj_get_info_by_fd(like_fd, &info, &len);
	if (r < 0)
		return r;
	/* Linux 6.1 refuses an inner map without BTF if the first inner map had BTF. */
	if (types->btf_fd < 0) {
		btf_fd = bpf_btf_get_fd_by_id(info.btf_id);
		if (btf_fd < 0)
			return btf_fd;
		opts.btf_fd = (__u32)btf_fd;
		opts.btf_key_type_id = info.btf_key_type_id;
		opts.btf_value_type_id = info.btf_value_type_id;
	}
	opts.map_flags = info.map_flags;
	fd = bpf_map_create((enum bpf_map_type)info.type, info.name, info.key_size, info.value_size,
			    info.max_entries, &opts);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int inner_map_fill(int fd, const void *keys, const void *values, size_t n)
{
	const char *key = keys, *value = values;
	struct bpf_map_info info = {};
	__u32 len = sizeof(info), count;
	size_t done = 0;
	int r;

	r = bpf_obj_get_info_by_fd(fd, &info, &len);
	if (r < 0)
		return r;
	for (; done < n; done += count) {
		count = n - done < BATCH_MAX ? (__u32)(n - done) : BATCH_MAX;
		r = bpf_map_update_batch(fd, key + done * info.key_size,
					 value + done * info.value_size, &count, NULL);
		if (r < 0)
			break;
	}
	/* Adds the rest one by one if the kernel has no batches for this type of map. */
	for (; done < n; done++) {
		r = bpf_map_update_elem(fd, key + done * info.key_size,
					value + done * info.value_size, BPF_ANY);
		if (r < 0)
			return r;
	}
	return 0;
}

int inner_map_put(int outer_fd, uint32_t slot, int fd)
{
	const uint32_t value = (uint32_t)fd;

	return bpf_map_update_elem(outer_fd, &slot, &value, BPF_ANY);
}

int inner_map_remove(int outer_fd, uint32_t slot)
{
	int r = bpf_map_delete_elem(outer_fd, &slot);

	return r == -ENOENT ? 0 : r;
}
