// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: what is pinned.
 *
 * map_policy must be tproxy's, written by a loader that finished, and of our ABI version. Only then
 * is something loaded, and later checks examine it (doctor.loaded). All maps, rings and programs
 * that relays open must be there, and there must be no foreign pin. Owners and modes must be those
 * of objects.h. The group of the directory counts as the group of relays.
 *
 * A relay must also reach the directory through all directories above it. The kernel must let a
 * process without capabilities use maps: a child process without any tries it.
 *
 * Entries without a socket are removed here, so that later checks count live connections only.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpffs.h"
#include "doctor.h"
#include "host/cgroup.h"
#include "objects.h"
#include "quote.h"
#include "state/owned.h"
#include "state/pins.h"
#include "state/policy.h"
#include "tproxy_abi.h"
#include "util.h"

#define UID_NOBODY 65534

/* True for a pin of the list, which belongs to the relays' group as the maps do. */
static bool is_list(const char *name)
{
	return strncmp(name, PINNED_LIST, strlen(PINNED_LIST)) == 0;
}

/*
 * Returns the mode that a pin must have, 0 for a map that this version does not have. *ret_group:
 * it belongs to the relays' group.
 */
static mode_t wanted_mode(const char *name, bool *ret_group)
{
	const struct pinned_map *map = pinned_map_of_pin(name);
	const struct hook *program = hook_of_program(name);

	*ret_group = true;
	if (map)
		return map->mode;
	if (is_list(name))
		return PINNED_LIST_MODE;
	if (program && program->opened)
		return PINNED_OPENED_MODE;
	*ret_group = false;
	return strncmp(name, "map_", 4) == 0 ? 0 : PINNED_HOOK_MODE;
}

/* Returns true if owner and mode are right. */
static bool check_access(struct doctor *d, const char *path, const struct stat *st, mode_t mode,
			 gid_t gid)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	bool good = true;

	shell_quote(path, quoted, sizeof(quoted));
	if ((st->st_mode & 07777) != mode) {
		doctor_add(d, DOCTOR_ERROR, "pins", "'%s' has mode %04o, not %04o%s", path,
			   st->st_mode & 07777, mode,
			   st->st_mode & ~mode & 07 ? ": others may use it" : "");
		doctor_fix(d, "chmod %04o %s", mode, quoted);
		good = false;
	}
	if (st->st_uid != 0 || st->st_gid != gid) {
		doctor_add(d, DOCTOR_ERROR, "pins", "'%s' belongs to %u:%u, not to 0:%u", path,
			   st->st_uid, st->st_gid, gid);
		doctor_fix(d, "chown 0:%u %s", gid, quoted);
		good = false;
	}
	return good;
}

static bool check_pin(struct doctor *d, const char *name)
{
	const struct pins pins = { .path = d->pin_dir, .fd = -1 };
	bool group;
	const mode_t mode = wanted_mode(name, &group);
	const int owned = owned_by_tproxy(&pins, name);
	char path[PATH_MAX], quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", d->pin_dir, name);
	if (stat(path, &st) < 0)
		return true; /* removed meanwhile */
	if (owned < 0) {
		doctor_add(d, DOCTOR_ERROR, "pins", "cannot examine '%s': %s", path,
			   strerror(-owned));
		return false;
	}
	if (!owned || !mode) {
		doctor_add(d, DOCTOR_WARNING, "pins", "'%s' was not created by tproxy-load", path);
		doctor_fix(d, S_ISDIR(st.st_mode) ? "rm -r -- %s" : "rm -- %s",
			   shell_quote(path, quoted, sizeof(quoted)));
		return false;
	}
	return check_access(d, path, &st, mode, group ? d->relay_gid : 0);
}

/* Returns true if the pin is there, or cannot be looked for. */
static bool check_there(struct doctor *d, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", d->pin_dir, name);
	if (faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0 || errno != ENOENT)
		return true;
	doctor_add(d, DOCTOR_ERROR, "pins", "'%s' is missing", path);
	doctor_fix(d, "%s", doctor_fix_load(d));
	return false;
}

/* Checks that all is there, apart from links and the programs that are attached by them. */
static bool check_all_there(struct doctor *d)
{
	char name[PINS_LINK_LEN], ring[PINNED_RING_LEN];
	bool good = true;
	size_t i;

	for (i = 0; i < _PINNED_MAP_MAX; i++)
		good &= check_there(d, pinned_maps[i].name);
	for (i = 0; i < TPROXY_RINGS_MAX; i++) {
		pinned_ring_name((uint32_t)i, ring);
		good &= check_there(d, ring);
	}
	for (i = 0; i < _HOOK_MAX; i++) {
		snprintf(name, sizeof(name), "prog_%s", hooks[i].name);
		if (hooks[i].opened)
			good &= check_there(d, name);
	}
	return good;
}

/* The kernel may have refused the iterator. Nothing but the tools needs it. */
static void check_list_there(struct doctor *d)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" PINNED_LIST, d->pin_dir);
	if (faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0 || errno != ENOENT)
		return;
	doctor_add(d, DOCTOR_WARNING, "pins",
		   "'%s' is missing: the tools do not know state and bytes of connections", path);
	doctor_fix(d, "%s", doctor_fix_load(d));
}

/*
 * The relay's group needs search permission on every directory above. Usually the bit for others
 * grants it.
 */
static bool check_way(struct doctor *d)
{
	char path[PATH_MAX], quoted[SHELL_QUOTE_LEN(PATH_MAX)], *parent = path;
	bool good = true;
	struct stat st;

	if (!d->relay_gid || !realpath(d->pin_dir, path))
		return true;
	do {
		parent = dirname(parent);
		if (stat(parent, &st) < 0 || st.st_mode & S_IXOTH ||
		    (st.st_gid == d->relay_gid && st.st_mode & S_IXGRP))
			continue;
		doctor_add(d, DOCTOR_ERROR, "pins",
			   "'%s' has mode %04o: the relay's group %u cannot reach the pins", parent,
			   st.st_mode & 07777, d->relay_gid);
		doctor_fix(d, "chmod o+x %s", shell_quote(parent, quoted, sizeof(quoted)));
		good = false;
	} while (strcmp(parent, "/") != 0 && strcmp(parent, ".") != 0);
	return good;
}

static void check_files(struct doctor *d)
{
	_cleanup_closedir_ DIR *dir = opendir(d->pin_dir);
	bool good = true;
	struct dirent *entry;
	struct stat st;

	if (!dir || fstat(dirfd(dir), &st) < 0) {
		doctor_add(d, DOCTOR_ERROR, "pins", "cannot read '%s': %s", d->pin_dir,
			   strerror(errno));
		return;
	}
	/* The group of the directory counts. All pins must agree with it. */
	d->relay_gid = st.st_gid;
	good &= check_access(d, d->pin_dir, &st,
			     d->relay_gid ? PINS_DIR_MODE_GROUP : PINS_DIR_MODE_ROOT, d->relay_gid);
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			good &= check_pin(d, entry->d_name);
	}
	good &= check_all_there(d);
	check_list_there(d);
	good &= check_way(d);
	if (good && d->relay_gid)
		doctor_add(
			d, DOCTOR_OK, "pins",
			"owners and modes in '%s' are right; members of group %u may register relays",
			d->pin_dir, d->relay_gid);
	else if (good)
		doctor_add(d, DOCTOR_OK, "pins",
			   "owners and modes in '%s' are right; only root may register relays",
			   d->pin_dir);
}

/*
 * Checks whether a process without any capability can use a map that was opened for it. With
 * kernel.unprivileged_bpf_disabled set it cannot, until c8644cd0efe7 ("bpf: refine
 * kernel.unprivileged_bpf_disabled behaviour").
 */
static void check_unprivileged_use(struct doctor *d, int map_fd)
{
	struct tproxy_policy policy;
	__u32 key = 0;
	int status;
	pid_t pid;

	if (!d->relay_gid || geteuid() != 0)
		return;
	fflush(stdout); /* the child must not print it again */
	pid = fork();
	if (pid == 0) {
		if (setresgid(UID_NOBODY, UID_NOBODY, UID_NOBODY) < 0 ||
		    setresuid(UID_NOBODY, UID_NOBODY, UID_NOBODY) < 0)
			_exit(2);
		_exit(bpf_map_lookup_elem(map_fd, &key, &policy) == 0 ? 0 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) ||
	    WEXITSTATUS(status) == 2)
		return;
	if (WEXITSTATUS(status) == 0) {
		doctor_add(d, DOCTOR_OK, "pins", "a relay needs no capability to use them");
		return;
	}
	doctor_add(
		d, DOCTOR_ERROR, "pins",
		"this kernel requires CAP_BPF to use maps: an unprivileged relay cannot register");
	doctor_fix(d, "sysctl kernel.unprivileged_bpf_disabled=0, or give the relay CAP_BPF");
}

/* A cgroup that is created again at the same path has another id. */
static void check_relay_cgroup(struct doctor *d)
{
	_cleanup_free_ char *path = NULL;

	if (!d->relay_cgroup_id || cgroup_path_by_id(d->relay_cgroup_id, &path) != -ESTALE)
		return;
	doctor_add(
		d, DOCTOR_ERROR, "loaded",
		"the relay cgroup (id %" PRIu64
		") was removed: no relay learns destinations, not even in a new cgroup at the same path",
		d->relay_cgroup_id);
	doctor_fix(d, "%s", doctor_fix_load(d));
}

static void check_policy(struct doctor *d)
{
	struct tproxy_policy policy;
	_cleanup_close_ int fd = -1;
	int r;

	r = bpffs_open_map(d->pin_dir, PINNED_POLICY, /* writable= */ false, &fd);
	if (r == 0)
		r = policy_read(fd, &policy);
	if (r < 0) {
		doctor_add(d, DOCTOR_ERROR, "loaded", "cannot read '%s/map_policy': %s", d->pin_dir,
			   strerror(-r));
		doctor_fix(d, "%s", doctor_fix_load(d));
		return;
	}
	d->loaded = true;
	d->fail_closed = policy.flags & TPROXY_FAIL_CLOSED;
	d->relay_cgroup_id = policy.relay_cgroup_id;
	bpffs_sweep(d->pin_dir);
	doctor_add(d, DOCTOR_OK, "loaded", "ABI version %u in '%s', %s", policy.abi_version,
		   d->pin_dir, d->fail_closed ? "fail-closed" : "fail-open");
	check_relay_cgroup(d);
	check_files(d);
	check_unprivileged_use(d, fd);
}

void doctor_pinned(struct doctor *d)
{
	const struct pins pins = { .path = d->pin_dir, .fd = -1 };
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];
	uint32_t version;
	int r = bpffs_abi_version(d->pin_dir, &version);

	shell_quote(d->pin_dir, quoted, sizeof(quoted));

	if (r != -ENOENT && (owned_by_tproxy(&pins, "map_policy") == 0 ||
			     owned_is_other_file(&pins, "map_policy"))) {
		doctor_add(
			d, DOCTOR_ERROR, "loaded",
			"'%s/map_policy' was not created by tproxy-load, so nothing is loaded there",
			d->pin_dir);
		doctor_fix(
			d,
			"choose another pin directory (--pin-dir), this one belongs to another program");
	} else if (r == -ENOENT && faccessat(AT_FDCWD, d->pin_dir, F_OK, AT_EACCESS) == 0) {
		doctor_add(d, DOCTOR_ERROR, "loaded", "'%s' exists, but holds no map_policy",
			   d->pin_dir);
		doctor_fix(d, "%s", doctor_fix_load(d));
	} else if (r == -ENOENT) {
		doctor_add(d, DOCTOR_WARNING, "loaded",
			   "nothing is loaded in '%s': nothing is redirected", d->pin_dir);
		doctor_fix(d,
			   "choose a scope: tproxy-load --pin-dir %s --cgroup PATH "
			   "--relay-cgroup PATH --relay-group GROUP",
			   quoted);
	} else if (r < 0) {
		doctor_add(d, DOCTOR_ERROR, "loaded", "cannot read '%s/map_policy': %s", d->pin_dir,
			   strerror(-r));
		if (r == -EACCES || r == -EPERM)
			doctor_fix(d, "sudo tproxyctl doctor -p %s", quoted);
		else
			doctor_fix(d, "tproxy-load --unload -p %s, then %s", quoted,
				   doctor_fix_load(d));
	} else if (version == 0) {
		doctor_add(d, DOCTOR_ERROR, "loaded", "the last load into '%s' did not finish",
			   d->pin_dir);
		doctor_fix(d, "%s", doctor_fix_load(d));
	} else if (version != TPROXY_ABI_VERSION) {
		doctor_add(d, DOCTOR_ERROR, "loaded",
			   "'%s' holds ABI version %u, this is version %u", d->pin_dir, version,
			   TPROXY_ABI_VERSION);
		doctor_fix(d,
			   "tproxy-load --unload -p %s, then tproxy-load with the options that it "
			   "was given before",
			   quoted);
	} else {
		check_policy(d);
	}
}
