// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl: a tour through the network namespaces, see netns_tour.h.
 *
 * The kernel has no list of them. Each process has a link to its own in /proc, whose inode number
 * tells two of them apart.
 */
#include "netns_tour.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

struct tour {
	ino_t *visited;
	size_t n, size;
	int home; /* the caller's own namespace */
	int (*fn)(uint64_t cookie, void *data);
	void *data;
};

int netns_tour_cookie(uint64_t *ret_cookie)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret_cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret_cookie, &len) < 0)
		return -errno;
	return 0;
}

static bool was_visited(const struct tour *tour, ino_t inode)
{
	size_t i;

	for (i = 0; i < tour->n; i++) {
		if (tour->visited[i] == inode)
			return true;
	}
	return false;
}

static int note(struct tour *tour, ino_t inode)
{
	if (tour->n == tour->size) {
		const size_t size = tour->size ? 2 * tour->size : 16;
		ino_t *visited = reallocarray(tour->visited, size, sizeof(*visited));

		if (!visited)
			return -ENOMEM;
		tour->visited = visited;
		tour->size = size;
	}
	tour->visited[tour->n++] = inode;
	return 0;
}

/* Visits the namespace that this descriptor names. One that may not be entered is left out. */
static int visit(struct tour *tour, int fd)
{
	uint64_t cookie;
	int r;

	if (setns(fd, CLONE_NEWNET) < 0)
		return 0;
	r = netns_tour_cookie(&cookie);
	if (r == 0)
		r = tour->fn(cookie, tour->data);
	if (setns(tour->home, CLONE_NEWNET) < 0)
		abort(); /* everything after this would be about another namespace */
	return r;
}

/* A process may end at any moment, and then it has no namespace to visit. */
static int visit_process(struct tour *tour, int proc_fd, const char *pid)
{
	_cleanup_close_ int fd = -1;
	char path[300];
	struct stat st;
	int r;

	snprintf(path, sizeof(path), "%s/ns/net", pid);
	if (fstatat(proc_fd, path, &st, 0) < 0 || was_visited(tour, st.st_ino))
		return 0;
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || was_visited(tour, st.st_ino))
		return 0;
	r = note(tour, st.st_ino);
	return r < 0 ? r : visit(tour, fd);
}

int netns_tour(int (*fn)(uint64_t cookie, void *data), void *data)
{
	_cleanup_close_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	struct tour tour = { .home = home, .fn = fn, .data = data };
	struct dirent *entry;
	struct stat st;
	int r;

	if (!dir || home < 0 || fstat(home, &st) < 0)
		return -errno;
	r = note(&tour, st.st_ino);
	while (r == 0 && (entry = readdir(dir))) {
		if (isdigit((unsigned char)entry->d_name[0]))
			r = visit_process(&tour, dirfd(dir), entry->d_name);
	}
	free(tour.visited);
	return r;
}
