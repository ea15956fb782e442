// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See logfile.h. Each file has two buffers: callers fill one while the thread writes the other. If
 * the disk stalls for longer than the free buffer lasts, lines are dropped and counted.
 */
#include "logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

/* Some 800 lines of the connection log, which a busy relay writes in 50 ms. */
#define BUFFER_SIZE (256 * 1024)
#define STACK_SIZE  (128 * 1024)
#define PAUSE_NS    1000000

struct file {
	int fd;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool running;
	bool stop;   /* the thread shall end when it has written everything */
	bool ended;  /* the thread has ended and can be joined */
	bool reopen; /* reopen after the queued lines have been written */
	bool torn;   /* used by the thread only: the file ends in the middle of a line */
	size_t len;  /* bytes queued in filling */
	char *filling, *writing;
	char path[PATH_MAX]; /* empty = no name */
	_Atomic int reopen_error;
	atomic_bool failing;
};

static struct file files[] = {
	{ .fd = STDOUT_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER },
	{ .fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER },
};
static void (*on_lost)(int fd, uint64_t lines, int error);

static struct file *file_of(int fd)
{
	return &files[fd == STDERR_FILENO];
}

static uint64_t count_lines(const char *data, size_t len)
{
	uint64_t n = 0;

	while (len > 0)
		n += data[--len] == '\n';
	return n;
}

/*
 * Cuts off the last len bytes of the file, which are the start of a line, unless another process
 * has written since. Returns 0, or -errno if the bytes are still there.
 */
static int cut_off(int fd, size_t len)
{
	const off_t end = lseek(fd, 0, SEEK_CUR);
	struct stat st;

	if (end < (off_t)len || fstat(fd, &st) < 0 || st.st_size != end)
		return -EBUSY;
	return ftruncate(fd, end - (off_t)len) < 0 ? -errno : 0;
}

/* Writes a buffer of whole lines. Calls on_lost() with the number that could not be written. */
static void write_lines(struct file *file, const char *data, size_t len)
{
	const char *const begin = data;
	size_t torn = 0;
	ssize_t n = 0;
	int error;

	if (file->torn && write(file->fd, "\n", 1) == 1)
		file->torn = false;
	while (len > 0) {
		n = file->torn ? -1 : write(file->fd, data, len);
		if (n <= 0)
			break;
		data += n;
		len -= (size_t)n;
	}
	atomic_store(&file->failing, len > 0);
	if (len == 0)
		return;
	error = n < 0 ? errno : ENOSPC;
	while (data - torn > begin && data[-1 - (ssize_t)torn] != '\n')
		torn++;
	if (torn > 0 && cut_off(file->fd, torn) < 0)
		file->torn = true;
	on_lost(file->fd, count_lines(data, len), error);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Opens the name again if it is another file's or no file's by now. Returns 0 or -errno. */
static int reopen(const struct file *file)
{
	_cleanup_close_ int fd = -1;
	struct stat now, before;

	if (fstat(file->fd, &before) < 0)
		return -errno;
	if (stat(file->path, &now) == 0 && same_file(&now, &before))
		return 0;
	/*
	 * Another user might have put a symbolic link or a pipe there: follow no link, and do not
	 * block on a pipe that has no reader.
	 */
	fd = open(file->path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
		  before.st_mode & 0666);
	if (fd < 0 || fstat(fd, &now) < 0)
		return -errno;
	if (!S_ISREG(now.st_mode))
		return -EINVAL;
	return dup2(fd, file->fd) < 0 ? -errno : 0;
}

/*
 * Lines come in bursts. A pause before each write lets more of them come, so that a burst takes one
 * write and one wakeup of this thread. Called with the lock held.
 */
static void collect(struct file *file)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };

	pthread_mutex_unlock(&file->lock);
	nanosleep(&pause, NULL);
	pthread_mutex_lock(&file->lock);
}

static void *run(void *arg)
{
	struct file *file = arg;
	bool opens;
	char *data;
	size_t len;

	pthread_mutex_lock(&file->lock);
	for (;;) {
		while (file->len == 0 && !file->reopen && !file->stop)
			pthread_cond_wait(&file->changed, &file->lock);
		if (!file->reopen && !file->stop)
			collect(file);
		if (file->len == 0 && !file->reopen)
			break;
		data = file->filling;
		file->filling = file->writing;
		file->writing = data;
		len = file->len;
		file->len = 0;
		opens = file->reopen;
		file->reopen = false;
		pthread_mutex_unlock(&file->lock);
		write_lines(file, data, len);
		if (opens)
			atomic_store(&file->reopen_error, -reopen(file));
		pthread_mutex_lock(&file->lock);
	}
	file->ended = true;
	pthread_cond_broadcast(&file->changed);
	pthread_mutex_unlock(&file->lock);
	return NULL;
}

/* Starts the thread if it is not running. Called with the lock held. Returns 0 or -errno. */
static int start(struct file *file)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int r;

	if (file->running && !file->ended)
		return 0;
	if (file->running)
		pthread_join(file->thread, NULL);
	file->running = false;
	if (!file->filling)
		file->filling = malloc(BUFFER_SIZE);
	if (!file->writing)
		file->writing = malloc(BUFFER_SIZE);
	if (!file->filling || !file->writing)
		return -ENOMEM;
	/* Block all signals in this thread: the program's other threads handle them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	file->stop = file->ended = false;
	r = -pthread_create(&file->thread, &attr, run, file);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	file->running = r == 0;
	return r;
}

int logfile_write(int fd, const char *line, size_t len)
{
	struct file *file = file_of(fd);
	int r;

	pthread_mutex_lock(&file->lock);
	r = start(file);
	if (r == 0 && len > BUFFER_SIZE - file->len)
		r = -EBUSY;
	if (r == 0) {
		memcpy(file->filling + file->len, line, len);
		if (file->len == 0)
			pthread_cond_broadcast(&file->changed);
		file->len += len;
	}
	pthread_mutex_unlock(&file->lock);
	return r;
}

bool logfile_has_room(int fd)
{
	struct file *file = file_of(fd);
	bool has_room;

	pthread_mutex_lock(&file->lock);
	has_room = file->len <= BUFFER_SIZE - PIPE_BUF;
	pthread_mutex_unlock(&file->lock);
	return has_room;
}

bool logfile_is_failing(int fd)
{
	return atomic_load(&file_of(fd)->failing);
}

void logfile_reopen(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		if (!files[i].path[0])
			continue;
		pthread_mutex_lock(&files[i].lock);
		if (start(&files[i]) == 0) {
			files[i].reopen = true;
			pthread_cond_broadcast(&files[i].changed);
		}
		pthread_mutex_unlock(&files[i].lock);
	}
}

int logfile_reopen_error(int fd, const char **ret_path)
{
	struct file *file = file_of(fd);

	*ret_path = file->path;
	return atomic_exchange(&file->reopen_error, 0);
}

static void stop(struct file *file, const struct timespec *until)
{
	int r = 0;

	pthread_mutex_lock(&file->lock);
	file->stop = true;
	pthread_cond_broadcast(&file->changed);
	while (file->running && !file->ended && r == 0)
		r = pthread_cond_timedwait(&file->changed, &file->lock, until);
	if (file->running && file->ended) {
		file->running = false;
		pthread_join(file->thread, NULL);
	}
	pthread_mutex_unlock(&file->lock);
}

void logfile_stop(unsigned int timeout_ms)
{
	struct timespec until;
	size_t i;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	for (i = 0; i < ARRAY_SIZE(files); i++)
		stop(&files[i], &until);
}

/*
 * The locks are not held during a write, so a stalled disk does not block fork(). The child
 * inherits the file and not the thread.
 */
static void before_fork(void)
{
	pthread_mutex_lock(&files[0].lock);
	pthread_mutex_lock(&files[1].lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&files[1].lock);
	pthread_mutex_unlock(&files[0].lock);
}

static void after_fork_in_child(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		files[i].running = files[i].reopen = false;
		files[i].len = 0;
		pthread_cond_init(&files[i].changed, NULL);
	}
	after_fork();
}

static void remember_name(struct file *file)
{
	char link[32];
	struct stat st, named;
	ssize_t n;

	file->path[0] = '\0';
	if (fstat(file->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", file->fd);
	n = readlink(link, file->path, sizeof(file->path) - 1);
	file->path[n > 0 ? n : 0] = '\0';
	/* The file was removed, or its name means another file in this mount namespace. */
	if (file->path[0] != '/' || stat(file->path, &named) < 0 || !same_file(&st, &named))
		file->path[0] = '\0';
	/*
	 * A shell's '>' opens without O_APPEND. After a truncation by another process the next
	 * write would then leave a hole at the start of the file.
	 */
	fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) | O_APPEND);
}

void logfile_remember(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		remember_name(&files[i]);
}

void logfile_init(void (*lost)(int fd, uint64_t lines, int error))
{
	size_t i;

	on_lost = lost;
	for (i = 0; i < ARRAY_SIZE(files); i++)
		pthread_cond_init(&files[i].changed, NULL);
	logfile_remember();
	pthread_atfork(before_fork, after_fork, after_fork_in_child);
}
