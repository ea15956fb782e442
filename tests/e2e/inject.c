// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Preloaded into a relay by inject.py: calls fail when a test wants them to. The rules are a table
 * in a shared file, one for each call in the order of CALLS there; the test writes them at any time
 * and reads how often they struck. A rule lets `skip` calls pass, then every `every`th one fails,
 * `left` times. Calls of which only some matter are told apart here: see the conditions.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum call {
	ACCEPT4,
	SOCKET,
	CONNECT,
	RECV,
	SEND,
	SPLICE_IN,  /* socket to pipe */
	SPLICE_OUT, /* pipe to socket */
	EPOLL_ADD,  /* EPOLL_CTL_ADD and MOD */
	EPOLL_DEL,  /* done all the same */
	EPOLL_WAIT, /* a worker's */
	PIPE2,
	SETPIPE,
	BPF_UPDATE, /* BPF_MAP_UPDATE_ELEM */
	BPF_OTHER,
	OBJ_GET, /* BPF_OBJ_GET */
	GETSOCKOPT,
	SETSOCKOPT,
	LINGER,	   /* setsockopt(SO_LINGER) */
	SO_ERROR_, /* getsockopt(SO_ERROR) */
	SHUTDOWN,
	CLOSE, /* done all the same, as by the kernel */
	GETSOCKNAME,
	POLL,
	EVENTFD_READ,
	WRITE,
	MALLOC,
	WORKER_MALLOC,
	REALTIME, /* no failure: error is the number of seconds by which the host's clock was set */
	_CALL_MAX,
};

struct rule {
	_Atomic int32_t error; /* 0: no rule */
	_Atomic int32_t skip;
	_Atomic int32_t every;
	_Atomic int32_t left;
	_Atomic int32_t calls;
	_Atomic int32_t struck;
};

static struct rule *rules;

__attribute__((constructor)) static void map_rules(void)
{
	const char *path = getenv("TPROXY_INJECT");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *mapped;

	if (fd < 0)
		return;
	mapped = mmap(NULL, _CALL_MAX * sizeof(*rules), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped != MAP_FAILED)
		rules = mapped;
}

/* Returns true if this call must fail, with errno set. */
static bool fails(enum call call)
{
	struct rule *rule = rules ? &rules[call] : NULL;
	int32_t number;

	if (!rule || !rule->error)
		return false;
	number = atomic_fetch_add(&rule->calls, 1) - rule->skip;
	if (number < 0 || number % rule->every != 0)
		return false;
	if (atomic_fetch_sub(&rule->left, 1) <= 0) {
		atomic_store(&rule->left, 0);
		return false;
	}
	atomic_fetch_add(&rule->struck, 1);
	errno = rule->error;
	return true;
}

static bool is_worker(void)
{
	return syscall(SYS_gettid) != getpid();
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return fails(ACCEPT4) ? -1 : REAL(accept4)(fd, addr, len, flags);
}

int socket(int domain, int type, int protocol)
{
	return fails(SOCKET) ? -1 : REAL(socket)(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int type = SOCK_STREAM;
	socklen_t size = sizeof(type);

	/* The relay also connects UDP sockets, to check whether its own address is still local. */
	REAL(getsockopt)(fd, SOL_SOCKET, SO_TYPE, &type, &size);
	return type == SOCK_STREAM && fails(CONNECT) ? -1 : REAL(connect)(fd, addr, len);
}

ssize_t recv(int fd, void *buffer, size_t len, int flags)
{
	return fails(RECV) ? -1 : REAL(recv)(fd, buffer, len, flags);
}

ssize_t send(int fd, const void *buffer, size_t len, int flags)
{
	return fails(SEND) ? -1 : REAL(send)(fd, buffer, len, flags);
}

ssize_t splice(int in, off_t *in_off, int out, off_t *out_off, size_t len, unsigned int flags)
{
	/* Only a pipe has a size. */
	bool to_pipe = fcntl(out, F_GETPIPE_SZ) >= 0;

	return fails(to_pipe ? SPLICE_IN : SPLICE_OUT)
		       ? -1
		       : REAL(splice)(in, in_off, out, out_off, len, flags);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	int r;

	if (op != EPOLL_CTL_DEL)
		return fails(EPOLL_ADD) ? -1 : REAL(epoll_ctl)(epfd, op, fd, event);
	r = REAL(epoll_ctl)(epfd, op, fd, event);
	return fails(EPOLL_DEL) ? -1 : r;
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	return is_worker() && fails(EPOLL_WAIT) ? -1 : REAL(epoll_wait)(epfd, events, max, timeout);
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return fails(POLL) ? -1 : REAL(poll)(fds, n, timeout);
}

int close(int fd)
{
	int r = REAL(close)(fd);

	return fails(CLOSE) ? -1 : r;
}

int eventfd_read(int fd, eventfd_t *value)
{
	return fails(EVENTFD_READ) ? -1 : REAL(eventfd_read)(fd, value);
}

ssize_t write(int fd, const void *data, size_t len)
{
	return fails(WRITE) ? -1 : REAL(write)(fd, data, len);
}

int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	return fails(GETSOCKNAME) ? -1 : REAL(getsockname)(fd, addr, len);
}

int pipe2(int fds[2], int flags)
{
	return fails(PIPE2) ? -1 : REAL(pipe2)(fds, flags);
}

static int fcntl_or_fail(int fd, int command, void *arg)
{
	int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, "fcntl64");

	return command == F_SETPIPE_SZ && fails(SETPIPE) ? -1 : real(fd, command, arg);
}

int fcntl(int fd, int command, ...)
{
	va_list args;
	void *arg;

	va_start(args, command);
	arg = va_arg(args, void *);
	va_end(args);
	return fcntl_or_fail(fd, command, arg);
}

int fcntl64(int fd, int command, ...)
{
	va_list args;
	void *arg;

	va_start(args, command);
	arg = va_arg(args, void *);
	va_end(args);
	return fcntl_or_fail(fd, command, arg);
}

/* libbpf's way to bpf(2). */
long syscall(long number, ...)
{
	long a[6];
	va_list args;
	size_t i;

	va_start(args, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_bpf && a[0] == BPF_OBJ_GET && fails(OBJ_GET))
		return -1;
	if (number == SYS_bpf && fails(a[0] == BPF_MAP_UPDATE_ELEM ? BPF_UPDATE : BPF_OTHER))
		return -1;
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	enum call call = level == SOL_SOCKET && name == SO_ERROR ? SO_ERROR_ : GETSOCKOPT;

	return fails(call) ? -1 : REAL(getsockopt)(fd, level, name, value, len);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	enum call call = level == SOL_SOCKET && name == SO_LINGER ? LINGER : SETSOCKOPT;

	return fails(call) ? -1 : REAL(setsockopt)(fd, level, name, value, len);
}

int shutdown(int fd, int how)
{
	return fails(SHUTDOWN) ? -1 : REAL(shutdown)(fd, how);
}

/* The clock that may be set at any time. */
static time_t set_by_s(void)
{
	struct rule *rule = rules ? &rules[REALTIME] : NULL;

	if (!rule)
		return 0;
	atomic_fetch_add(&rule->calls, 1);
	return rule->error;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = REAL(clock_gettime)(clock, ts);

	if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ts->tv_sec += set_by_s();
	return r;
}

int gettimeofday(struct timeval *tv, void *tz)
{
	int r = REAL(gettimeofday)(tv, tz);

	if (r == 0 && tv)
		tv->tv_sec += set_by_s();
	return r;
}

time_t time(time_t *ret)
{
	time_t now = REAL(time)(NULL) + set_by_s();

	if (ret)
		*ret = now;
	return now;
}

/* Not with AddressSanitizer, which has an allocator of its own. */
#ifdef INJECT_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static bool malloc_fails(void)
{
	return fails(MALLOC) ||
	       (rules && rules[WORKER_MALLOC].error && is_worker() && fails(WORKER_MALLOC));
}

void *malloc(size_t size)
{
	return malloc_fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return malloc_fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	return malloc_fails() ? NULL : __libc_realloc(p, size);
}
#endif
