// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See sink.h. O_NONBLOCK would do it too, but it belongs to the open file, which we share with who
 * started us and with what that starts next. So each call says for itself that it will not wait.
 */
#include "sink.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_bool never_wait;
static _Atomic uint64_t dropped;

void sink_never_wait(void)
{
	atomic_store_explicit(&never_wait, true, memory_order_relaxed);
}

uint64_t sink_dropped(void)
{
	return atomic_load_explicit(&dropped, memory_order_relaxed);
}

/*
 * A pipe that is writable has room for PIPE_BUF bytes, so this does not wait, unless another
 * process fills the pipe in between. Of our threads only one is here at a time.
 */
static ssize_t write_if_ready(int fd, const char *line, size_t len)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	ssize_t n = -1;

	pthread_mutex_lock(&lock);
	if (poll(&ready, 1, 0) == 1)
		n = write(fd, line, len);
	pthread_mutex_unlock(&lock);
	return n;
}

static ssize_t write_at_once(int fd, const char *line, size_t len)
{
	const struct iovec iov = { .iov_base = (void *)line, .iov_len = len };
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -1;
	/* As the journal's is. */
	if (S_ISSOCK(st.st_mode))
		return send(fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (S_ISFIFO(st.st_mode)) {
		/* Linux 6.4; not for a pipe with a name. */
		n = pwritev2(fd, &iov, 1, -1, RWF_NOWAIT);
		if (n >= 0 || errno == EAGAIN)
			return n;
	}
	return write_if_ready(fd, line, len);
}

bool sink_write(int fd, const char *line, size_t len)
{
	ssize_t n;

	if (atomic_load_explicit(&never_wait, memory_order_relaxed))
		n = write_at_once(fd, line, len);
	else
		n = write(fd, line, len);
	if (n >= 0)
		return true;
	atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
	return false;
}
