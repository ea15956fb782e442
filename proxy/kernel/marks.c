// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See marks.h, and tproxy_abi.h for the maps. */
#include "marks.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "monotonic.h"
#include "util.h"
#include "whoami.h"

void marks_close(struct marks *marks)
{
	util_closep(&marks->marks_fd);
	util_closep(&marks->failed_fd);
	marks->marks_fd = marks->failed_fd = -1;
}

int marks_set(int marks_fd, int fd, uint32_t flags)
{
	const struct tproxy_mark value = { .flags = flags };

	return bpf_map_update_elem(marks_fd, &fd, &value, BPF_ANY);
}

int marks_set_upstream(const struct marks *marks, int fd)
{
	return marks_set(marks->marks_fd, fd, TPROXY_MARK_UPSTREAM);
}

int marks_set_upstream_of(const struct marks *marks, int fd, const struct tproxy_conn *conn)
{
	const struct tproxy_mark value = {
		.flags = TPROXY_MARK_UPSTREAM | TPROXY_MARK_HAS_CONN,
		.conn = *conn,
	};

	return bpf_map_update_elem(marks->marks_fd, &fd, &value, BPF_ANY);
}

int marks_set_joining(const struct marks *marks, int fd, const struct tproxy_conn *conn)
{
	const struct tproxy_mark value = {
		.flags = TPROXY_MARK_UPSTREAM | TPROXY_MARK_JOINS,
		.conn = *conn,
	};

	return bpf_map_update_elem(marks->marks_fd, &fd, &value, BPF_ANY);
}

bool marks_is_exempt(int listen_fd)
{
	struct tproxy_whoami who;

	return whoami_query(listen_fd, &who) == 0 && (who.mark_flags & TPROXY_MARK_EXEMPT);
}

static void note(const struct marks *marks, uint32_t upstream, const union sockaddr_any *dst,
		 int error)
{
	struct tproxy_failed_key key = {
		.netns_cookie = marks->netns_cookie,
		.upstream = upstream,
	};
	struct tproxy_failed failed = {
		.expires_ns = monotonic_kernel_ns() + marks->error_memory_ms * 1000000,
		.error = (__u32)error,
	};

	if (marks->error_memory_ms == 0)
		return;
	marks_address(key.dst.addr, dst);
	key.dst.port = ntohs(dst->in.sin_port);
	bpf_map_update_elem(marks->failed_fd, &key, &failed, BPF_ANY);
}

static bool is_of_destination(int error)
{
	return error == ECONNREFUSED || error == ENETUNREACH || error == EHOSTUNREACH ||
	       error == ETIMEDOUT;
}

void marks_note_error(const struct marks *marks, uint32_t upstream, const union sockaddr_any *dst,
		      int error)
{
	if (is_of_destination(error))
		note(marks, upstream, dst, error);
}

void marks_note_refused(const struct marks *marks, uint32_t upstream, const union sockaddr_any *dst,
			int error)
{
	if (is_of_destination(error) || error == EACCES)
		note(marks, upstream, dst, error);
}

void marks_address(__u8 ip[16], const union sockaddr_any *addr)
{
	memset(ip, 0, 16);
	if (addr->sa.sa_family == AF_INET6) {
		memcpy(ip, &addr->in6.sin6_addr, sizeof(addr->in6.sin6_addr));
		return;
	}
	ip[10] = ip[11] = 0xff;
	memcpy(&ip[12], &addr->in.sin_addr, sizeof(addr->in.sin_addr));
}
