// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See maps.h. */
#include "maps.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpffs.h"
#include "log.h"
#include "owned.h"
#include "pins.h"
#include "tproxy_abi.h"
#include "util.h"

char *maps_strerror(const char *pin_dir, const char *name, int r, char buf[MAPS_ERROR_LEN])
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	const bool denied = r == -EACCES || r == -EPERM;
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	const char *remedy = "";

	shell_quote(pin_dir, quoted, sizeof(quoted));
	if (r == -EPROTO || (denied && owned_is_other_file(&pins, name))) {
		snprintf(
			buf, MAPS_ERROR_LEN,
			"it was not created by this version of tproxy-load; run 'tproxyctl doctor' with --pin-dir %s",
			quoted);
		return buf;
	}
	if (r == -ENOENT || r == -ESTALE)
		remedy = "; load again with the same options";
	else if (r == -EROFS)
		remedy =
			"; links can be opened only for writing, remount with 'mount -o remount,rw'";
	else if (denied)
		remedy = geteuid() ? "; run this as root" : "; root needs CAP_BPF for this";
	snprintf(buf, MAPS_ERROR_LEN, "%s%s", r == -ESTALE ? strerror(ENOENT) : strerror(-r),
		 remedy);
	return buf;
}

int maps_log_error(const char *pin_dir, enum pinned_map_id id, int r)
{
	char text[MAPS_ERROR_LEN];

	log_err("cannot read '%s/%s': %s", pin_dir, pinned_maps[id].name,
		maps_strerror(pin_dir, pinned_maps[id].name, r, text));
	return r;
}

int maps_open(const char *pin_dir, enum pinned_map_id id, bool writable, int *ret_fd)
{
	int r = bpffs_open_map(pin_dir, id, writable, ret_fd);

	return r < 0 ? maps_log_error(pin_dir, id, r) : 0;
}

/*
 * Returns 1 if maps, programs or links of tproxy-load are pinned, otherwise 0, or -errno if that
 * cannot be found out. The relays' group may not list the directory, but may open maps by name.
 */
static int holds_pins(const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	_cleanup_closedir_ DIR *dir = opendir(pin_dir);
	struct dirent *entry;
	int r = 0;
	size_t i;

	for (i = 0; i < _PINNED_MAP_MAX && r == 0; i++)
		r = owned_by_tproxy(&pins, pinned_maps[i].name);
	while (r == 0 && dir && (entry = readdir(dir)))
		r = owned_by_tproxy(&pins, entry->d_name);
	return r;
}

int maps_check_abi(const char *pin_dir, uint32_t *ret_version)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	uint32_t version;
	int r, held = 0;

	r = bpffs_abi_version(pin_dir, &version);
	if (r == -ENOENT)
		held = holds_pins(pin_dir);
	if (held < 0) {
		log_err("cannot examine the pins in '%s': %s", pin_dir, strerror(-held));
		return held;
	}
	if (held > 0) {
		log_err("'%s/map_policy' is missing, but other pins of a load are there, and its programs may still redirect; load again with the same options, or run: tproxy-load --unload -p %s",
			pin_dir, shell_quote(pin_dir, quoted, sizeof(quoted)));
		return -ENODATA;
	}
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

int maps_check_loaded(const char *pin_dir)
{
	uint32_t version;
	int r = maps_check_abi(pin_dir, &version);

	if (r == -ENOENT)
		log_err(MAPS_NOT_LOADED, pin_dir);
	return r;
}
