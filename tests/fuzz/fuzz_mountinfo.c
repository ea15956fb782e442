// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * loader/host/cgroup.c reads /proc/self/mountinfo: any text, and any mount point as the kernel
 * would write it, which must come back unchanged.
 */
#include "fuzz.h"

#define fopen fuzz_fopen
#include "../../loader/host/cgroup.c"
#undef fopen

static void check_text(const uint8_t *data, size_t size)
{
	char *path = NULL;
	int r;

	fuzz_file.data = data;
	fuzz_file.size = size;
	r = cgroup_root(&path);
	require(r == 0 || r == -ENOENT);
	require((r == 0) == (path != NULL));
	require(r < 0 || memmem(data, size, " - cgroup2 ", 11));
	free(path);
}

/* Writes the path as show_mountinfo() in the kernel's fs/proc_namespace.c does. */
static void check_path(const char *path)
{
	static const char before[] = "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 25 0:26 / ";
	static const char after[] = " rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
	char *line = malloc(sizeof(before) + 4 * strlen(path) + sizeof(after)), *out, *found = NULL;
	const char *p;

	require(line);
	out = stpcpy(line, before);
	for (p = path; *p; p++) {
		if (strchr(" \t\n\\", *p))
			out += sprintf(out, "\\%03o", (unsigned int)(unsigned char)*p);
		else
			*out++ = *p;
	}
	strcpy(out, after);
	fuzz_file.data = line;
	fuzz_file.size = strlen(line);
	require(cgroup_root(&found) == 0);
	require(strcmp(found, path) == 0);
	free(found);
	free(line);
}

/* Checks the comparison of scopes with two paths below one root. */
static void check_within(const char *path)
{
	struct cgroup one = { .path = (char *)(uintptr_t)path, .fd = -1 };
	struct cgroup other = { .path = strdup(path), .fd = -1 };
	char *slash;

	require(other.path);
	require(cgroup_is_within(&one, &other));
	slash = strrchr(other.path, '/');
	if (slash && slash != other.path && slash[1]) {
		*slash = '\0';
		require(cgroup_is_within(&one, &other));
		require(!cgroup_is_within(&other, &one));
		require(depth_of(path + strlen(other.path)) == 1);
	}
	free(other.path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *path;

	check_text(data, size);
	/* A path as realpath(3) returns it: absolute, shorter than PATH_MAX. */
	path = malloc(size + 2);
	require(path);
	*path = '/';
	if (size > 0)
		memcpy(path + 1, data, size);
	path[size + 1] = '\0';
	if (strlen(path) < PATH_MAX) {
		check_path(path);
		check_within(path);
	}
	free(path);
	return 0;
}
