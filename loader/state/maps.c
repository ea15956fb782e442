// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See maps.h. */
#include "maps.h"

#include <errno.h>
#include <string.h>

#include "bpffs.h"
#include "log.h"
#include "tproxy_abi.h"

int maps_log_error(const char *pin_dir, enum pinned_map_id id, int r)
{
	log_err("cannot read '%s/%s': %s%s", pin_dir, pinned_maps[id].name, strerror(-r),
		r == -EACCES || r == -EPERM ? "; run this as root" : "");
	return r;
}

int maps_open(const char *pin_dir, enum pinned_map_id id, bool writable, int *ret_fd)
{
	int r = bpffs_open_map(pin_dir, id, writable, ret_fd);

	return r < 0 ? maps_log_error(pin_dir, id, r) : 0;
}

int maps_check_abi(const char *pin_dir, uint32_t *ret_version)
{
	uint32_t version;
	int r;

	r = bpffs_abi_version(pin_dir, &version);
	if (r == -ENOENT)
		return r;
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_POLICY, r);
	if (version == 0) {
		log_err("the last load into '%s' did not finish; load again with the same options",
			pin_dir);
		return -EAGAIN;
	}
	if (version != TPROXY_ABI_VERSION) {
		log_err("'%s' holds ABI version %u, this is version %u; use the programs of the version that loaded it",
			pin_dir, version, TPROXY_ABI_VERSION);
		return -EPROTO;
	}
	*ret_version = version;
	return 0;
}
