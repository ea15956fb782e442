// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See sink.h. O_NONBLOCK is no way to avoid blocking: it belongs to the open file description,
 * which the relay shares with the process that started it and with that process's later children.
 * So each call asks for it by a flag of its own, or polls first.
 */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "logfile.h"

static atomic_bool never_wait;
static _Atomic uint64_t dropped;
static struct lost {
	_Atomic uint64_t lines;
	atomic_int error;
} lost_of[STDERR_FILENO + 1];

/*
 * The rest of a line that a terminal or a stream socket took in part. It is written before the next
 * line, so that lines do not mix.
 */
static struct {
	pthread_mutex_t lock;
	size_t len;
	char data[PIPE_BUF];
} rests[STDERR_FILENO + 1] = {
	[STDOUT_FILENO].lock = PTHREAD_MUTEX_INITIALIZER,
	[STDERR_FILENO].lock = PTHREAD_MUTEX_INITIALIZER,
};

/* What sink_init() found and changed. */
static struct {
	bool opened[STDERR_FILENO + 1];
	void (*on_xfsz)(int);
} inherited;

void sink_init(void)
{
	int fd;

	/* open(2) returns the lowest free descriptor. */
	do {
		fd = open("/dev/null", O_RDONLY);
		if (fd >= 0 && fd <= STDERR_FILENO)
			inherited.opened[fd] = true;
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	inherited.on_xfsz = signal(SIGXFSZ, SIG_IGN);
}

void sink_restore(void)
{
	int fd;

	for (fd = 0; fd <= STDERR_FILENO; fd++) {
		if (inherited.opened[fd])
			close(fd);
	}
	signal(SIGXFSZ, inherited.on_xfsz);
}

static void count_lost(int fd, uint64_t lines, int error)
{
	atomic_fetch_add_explicit(&dropped, lines, memory_order_relaxed);
	atomic_store_explicit(&lost_of[fd].error, error, memory_order_relaxed);
	atomic_fetch_add_explicit(&lost_of[fd].lines, lines, memory_order_relaxed);
}

void sink_never_wait(void)
{
	if (atomic_exchange(&never_wait, true))
		return;
	logfile_init(count_lost);
}

uint64_t sink_dropped(void)
{
	return atomic_load_explicit(&dropped, memory_order_relaxed);
}

uint64_t sink_take_lost(int fd, int *ret_error)
{
	*ret_error = atomic_load_explicit(&lost_of[fd].error, memory_order_relaxed);
	return atomic_exchange_explicit(&lost_of[fd].lines, 0, memory_order_relaxed);
}

void sink_give_back_lost(int fd, uint64_t lines)
{
	atomic_fetch_add_explicit(&lost_of[fd].lines, lines, memory_order_relaxed);
}

const char *sink_why(int error)
{
	if (error == EAGAIN)
		return "it is not read";
	if (error == EBUSY)
		return "its disk does not answer in time";
	return strerror(error);
}

static ssize_t write_at_once(int fd, mode_t mode, const char *data, size_t len)
{
	const struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	ssize_t n;

	/* The journal's stderr is a socket. */
	if (S_ISSOCK(mode))
		return send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (S_ISFIFO(mode)) {
		/* RWF_NOWAIT for pipes: since 6.4, and not for a named pipe. */
		n = pwritev2(fd, &iov, 1, -1, RWF_NOWAIT);
		if (n >= 0 || errno == EAGAIN)
			return n;
	}
	/*
	 * A pipe that poll() reports as writable has room for PIPE_BUF bytes, so this write does
	 * not block unless another process fills the pipe in between. The lock keeps other threads
	 * of this process out.
	 */
	if (poll(&ready, 1, 0) == 1)
		return write(fd, data, len);
	errno = EAGAIN;
	return -1;
}

/*
 * Writes one line, after the rest of the previous one. Called with the lock held. Returns 0 or
 * -errno. A line that a stream takes in part counts as written: its rest is kept.
 */
static int write_whole(int fd, mode_t mode, const char *line, size_t len)
{
	ssize_t n;

	if (rests[fd].len > 0) {
		n = write_at_once(fd, mode, rests[fd].data, rests[fd].len);
		if (n < 0)
			return -errno;
		rests[fd].len -= (size_t)n;
		memmove(rests[fd].data, rests[fd].data + n, rests[fd].len);
		if (rests[fd].len > 0)
			return -EAGAIN;
	}
	n = write_at_once(fd, mode, line, len);
	if (n < 0)
		return -errno;
	rests[fd].len = len - (size_t)n;
	memcpy(rests[fd].data, line + n, rests[fd].len);
	return 0;
}

int sink_try(int fd, const char *line, size_t len)
{
	struct stat st;
	int r;

	if (!atomic_load_explicit(&never_wait, memory_order_relaxed))
		return write(fd, line, len) < 0 ? -errno : 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode))
		return logfile_write(fd, line, len);
	pthread_mutex_lock(&rests[fd].lock);
	r = write_whole(fd, st.st_mode, line, len);
	pthread_mutex_unlock(&rests[fd].lock);
	return r;
}

bool sink_has_room(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	struct stat st;

	if (!atomic_load_explicit(&never_wait, memory_order_relaxed) || fstat(fd, &st) < 0)
		return true;
	if (S_ISREG(st.st_mode))
		return logfile_has_room(fd);
	return poll(&ready, 1, 0) != 0;
}

bool sink_write(int fd, const char *line, size_t len)
{
	int r = sink_try(fd, line, len);

	if (r < 0)
		count_lost(fd, 1, -r);
	return r == 0;
}
