// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl doctor. See netlink.h. */
#include "netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "util.h"

#define BUFFER_SIZE 32768

/* A socket belongs to the namespace in which it was created, so this process can return at once. */
int netlink_open_in(pid_t pid, int protocol)
{
	const struct timeval timeout = { .tv_sec = 2 };
	_cleanup_close_ int home = -1, there = -1, fd = -1;
	char path[64];
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	there = open(path, O_RDONLY | O_CLOEXEC);
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (there < 0 || home < 0)
		return -errno;
	if (setns(there, CLONE_NEWNET) < 0)
		return -errno;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		r = -errno;
	if (setns(home, CLONE_NEWNET) < 0)
		abort(); /* everything after this would be about another namespace */
	if (r == 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		r = -errno;
	return r < 0 ? r : TAKE_FD(fd);
}

/* Returns 1 at the end of the dump, 0 if more follows, or -errno. */
static int take_part(const struct nlmsghdr *msg, ssize_t len,
		     void (*fn)(const struct nlmsghdr *msg, void *data), void *data)
{
	for (; NLMSG_OK(msg, len); msg = NLMSG_NEXT(msg, len)) {
		if (msg->nlmsg_type == NLMSG_DONE)
			return 1;
		if (msg->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *error = NLMSG_DATA(msg);

			return error->error < 0 ? error->error : 1;
		}
		fn(msg, data);
	}
	return 0;
}

int netlink_dump(int fd, struct nlmsghdr *request,
		 void (*fn)(const struct nlmsghdr *msg, void *data), void *data)
{
	_cleanup_free_ void *buffer = malloc(BUFFER_SIZE);
	ssize_t n;
	int r = 0;

	if (!buffer)
		return -ENOMEM;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	if (send(fd, request, request->nlmsg_len, 0) < 0)
		return -errno;
	while (r == 0) {
		n = recv(fd, buffer, BUFFER_SIZE, 0);
		if (n < 0)
			return -errno;
		r = take_part(buffer, n, fn, data);
	}
	return r < 0 ? r : 0;
}
