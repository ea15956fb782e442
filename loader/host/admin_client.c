// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See admin_client.h. HTTP/1.0: the relay sends one answer and closes, so the end of the answer is
 * the end of file. An answer that is shorter than its Content-Length is refused.
 */
#include "admin_client.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "monotonic.h"
#include "parse.h"
#include "util.h"

/* Limit of an answer. */
#define ANSWER_MAX (4 << 20)
/* How long connect() may take, and then the whole answer. */
#define TIMEOUT_S 5

/* Connects; a relay that is stopped may have a full backlog. */
static int connect_to(const struct sockaddr *addr, socklen_t len)
{
	_cleanup_close_ int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval limit = { .tv_sec = TIMEOUT_S };

	if (fd < 0)
		return -errno;
	/* Also limits connect(2): EAGAIN of a UNIX socket, EINPROGRESS of TCP. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, addr, len) < 0)
		return errno == EAGAIN || errno == EINPROGRESS ? -ETIMEDOUT : -errno;
	return TAKE_FD(fd);
}

static int connect_unix(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	return connect_to((const struct sockaddr *)&addr, sizeof(addr));
}

int admin_client_connect(const char *address)
{
	union sockaddr_any addr;

	if (*address == '/')
		return connect_unix(address);
	if (parse_endpoint(address, &addr) < 0)
		return -EINVAL;
	return connect_to(&addr.sa, sockaddr_len(&addr));
}

static int send_request(int fd, const char *document)
{
	char request[256];
	const int len = snprintf(request, sizeof(request),
				 "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", document);

	if ((size_t)len >= sizeof(request))
		return -EINVAL;
	return send(fd, request, (size_t)len, MSG_NOSIGNAL) == len ? 0 : -EPROTO;
}

/* Waits until something can be read. Returns 0 or -errno. */
static int wait_until(int fd, uint64_t deadline_ns)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	uint64_t now;
	int n;

	do {
		now = monotonic_kernel_ns();
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		n = poll(&poll_fd, 1, (int)((deadline_ns - now) / 1000000) + 1);
	} while (n == 0 || (n < 0 && errno == EINTR));
	return n < 0 ? -errno : 0;
}

/* Reads to the end of file. *ret_answer ends with a NUL. Returns its length or -errno. */
static ssize_t read_answer(int fd, char **ret_answer)
{
	_cleanup_free_ char *answer = malloc(ANSWER_MAX + 1);
	const uint64_t deadline_ns = monotonic_kernel_ns() + TIMEOUT_S * 1000000000ULL;
	size_t len = 0;
	ssize_t n;
	int r;

	if (!answer)
		return -ENOMEM;
	do {
		r = wait_until(fd, deadline_ns);
		if (r < 0)
			return r;
		n = read(fd, answer + len, ANSWER_MAX - len);
		if (n < 0)
			return -errno;
		len += (size_t)n;
	} while (n > 0);
	answer[len] = '\0';
	*ret_answer = TAKE_PTR(answer);
	return (ssize_t)len;
}

/* Returns the body within answer, or NULL unless it is whole and the status is 200. */
static const char *body_of(const char *answer, size_t len)
{
	const char *end = strstr(answer, "\r\n\r\n");
	const char *length = strcasestr(answer, "\r\nContent-Length:");
	unsigned int status;

	if (!end || sscanf(answer, "HTTP/1.%*1[01] %u", &status) != 1 || status != 200)
		return NULL;
	end += strlen("\r\n\r\n");
	if (length && length < end &&
	    strtoul(length + strlen("\r\nContent-Length:"), NULL, 10) !=
		    len - (size_t)(end - answer))
		return NULL;
	return end;
}

int admin_client_ask(int fd, const char *document, char **ret_body)
{
	_cleanup_free_ char *answer = NULL;
	const char *body;
	ssize_t len;
	int r;

	r = send_request(fd, document);
	if (r < 0)
		return r;
	len = read_answer(fd, &answer);
	if (len < 0)
		return (int)len;
	body = body_of(answer, (size_t)len);
	if (!body)
		return -EPROTO;
	*ret_body = strdup(body);
	return *ret_body ? 0 : -ENOMEM;
}

int admin_client_get(const char *address, const char *document, char **ret_body)
{
	_cleanup_close_ int fd = admin_client_connect(address);

	return fd < 0 ? fd : admin_client_ask(fd, document, ret_body);
}
