// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See bpffs.h. */
#include "bpffs.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/socket.h>

#include "tproxy_abi.h"
#include "util.h"

/* More parts than a pass over a full map_socks has. */
#define SWEEP_PARTS_MAX 16

/* Returns a descriptor that the caller owns, or -errno. */
static int open_pin(const char *pin_dir, const char *name, bool writable)
{
	LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = writable ? 0 : BPF_F_RDONLY);
	char path[PATH_MAX];
	int n;

	n = snprintf(path, sizeof(path), "%s/%s", pin_dir, name);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return bpf_obj_get_opts(path, &opts);
}

int bpffs_open_map(const char *pin_dir, enum pinned_map_id id, bool writable, int *ret_fd)
{
	const struct pinned_map *map = &pinned_maps[id];
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = -1;
	int r;

	fd = open_pin(pin_dir, map->name, writable);
	if (fd < 0)
		return fd;
	r = bpf_obj_get_info_by_fd(fd, &info, &len);
	if (r < 0)
		return r;
	if (info.key_size != map->key_size || info.value_size != map->value_size)
		return -EPROTO;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int bpffs_abi_version(const char *pin_dir, uint32_t *ret_version)
{
	/* Another version may have another size; abi_version is the first member in all of them. */
	union {
		__u32 abi_version;
		char bytes[4096];
	} value;
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = -1;
	__u32 key = 0;
	int r;

	fd = open_pin(pin_dir, pinned_maps[PINNED_POLICY].name, /* writable= */ false);
	if (fd < 0)
		return fd;
	r = bpf_obj_get_info_by_fd(fd, &info, &len);
	if (r < 0)
		return r;
	if (info.key_size != sizeof(key) || info.value_size < sizeof(__u32) ||
	    info.value_size > sizeof(value))
		return -EPROTO;
	r = bpf_map_lookup_elem(fd, &key, &value);
	if (r < 0)
		return r;
	*ret_version = value.abi_version;
	return 0;
}

void bpffs_sweep(const char *pin_dir)
{
	/* BPF_PROG_TEST_RUN requires a valid Ethernet frame. The program does not read it. */
	char packet[64] = { [12] = 0x08 };
	struct __sk_buff ctx = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet),
		    .ctx_in = &ctx, .ctx_size_in = sizeof(ctx));
	_cleanup_close_ int fd = open_pin(pin_dir, "prog_sweep_now", /* writable= */ true);
	_cleanup_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie;
	socklen_t len = sizeof(cookie);
	int parts = SWEEP_PARTS_MAX;

	if (fd < 0 || sock < 0 || getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		return;
	ctx.cb[0] = (uint32_t)cookie;
	ctx.cb[1] = (uint32_t)(cookie >> 32);
	do
		opts.retval = 0;
	while (bpf_prog_test_run_opts(fd, &opts) == 0 && opts.retval && --parts > 0);
}

int bpffs_map_id(int map_fd, uint32_t *ret_id)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	int r;

	r = bpf_obj_get_info_by_fd(map_fd, &info, &len);
	if (r < 0)
		return r;
	*ret_id = info.id;
	return 0;
}
