// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See pump.h. run() first writes what is left from earlier calls: kept bytes, then those in the
 * pipe. Then it reads and writes in rounds, by copy() or by splice_some(), until a side blocks or
 * ends, or turn_bytes have been moved.
 *
 * The caller polls level-triggered. A call may therefore stop early, after a short read or to let
 * other sessions run: the caller calls again while there is more.
 *
 * A read error or a FIN is returned only after all data read before it is written. A pipe that
 * is empty at the end of a call goes back to the worker.
 */
#include "pump.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/sockios.h>

#include "pipes.h"
#include "util.h"

/* Limit of rounds in one call: turn_bytes needs no more. */
#define ROUNDS_MAX 16
/* Full reads in a row after which a flow is bulk. */
#define BULK_AFTER 2
/* A splice(2) that moves less than this ends the bulk mode of its flow. */
#define BULK_LEAST (16 * 1024)
/*
 * pump::near_src: once ACK_AFTER bytes have come since the last answer, about a segment elsewhere,
 * reads are acknowledged immediately. Reads of ACK_MOST bytes fill segments on loopback too, and
 * need no such acknowledgement.
 */
#define ACK_AFTER 1000
#define ACK_MOST  (64 * 1024)
/* Limit of pump_prefetch(): enough for a request, and little memory if many clients wait for a
 * server that does not answer. */
#define PREFETCH_MAX 4096

/* Internal result: continue. Never returned to the caller. */
#define MOVED ((enum pump_result) - 1)

void pump_init(struct pump *pump, int src_fd, int dst_fd)
{
	*pump = (struct pump){ .src_fd = src_fd, .dst_fd = dst_fd };
}

void pump_finish(struct pump *pump, struct pump_env *env)
{
	free(pump->kept);
	if (pump->pipe)
		pipes_discard(env->pipes, pump->pipe);
	*pump = (struct pump){ .src_fd = -1, .dst_fd = -1 };
}

/*
 * Turns Nagle's algorithm off before the second write. The algorithm holds back a small segment
 * while another one is not acknowledged, so never the first write. Most connections write only once
 * and save the system call.
 */
static void before_write(struct pump *pump)
{
	const int on = 1;

	if (!pump->nagle || pump->bytes == 0)
		return;
	setsockopt(pump->dst_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	pump->nagle = false;
}

static enum pump_result write_result(void)
{
	return errno == EAGAIN || errno == EINTR ? PUMP_WAIT_WRITE : PUMP_WRITE_ERROR;
}

static enum pump_result read_result(void)
{
	return errno == EAGAIN || errno == EINTR ? PUMP_WAIT_READ : PUMP_READ_ERROR;
}

/*
 * True if the next byte of src_fd is urgent. A read stops before an urgent byte unless it is the
 * first byte (SO_OOBINLINE, socket(7)), so a check before each read finds them all. One exception:
 * an urgent byte that reaches an empty socket between this call and the read is passed on in its
 * place, but not as urgent.
 */
static bool at_mark(const struct pump *pump)
{
	int at = 0, in_line = 0;
	socklen_t len = sizeof(in_line);

	if (ioctl(pump->src_fd, SIOCATMARK, &at) < 0 || !at)
		return false;
	/* If a foreign program refused SO_OOBINLINE, the next byte read is the one after the urgent
	 * byte. */
	return getsockopt(pump->src_fd, SOL_SOCKET, SO_OOBINLINE, &in_line, &len) == 0 && in_line;
}

/* Has the kernel acknowledge a read of got bytes immediately, where near_src needs that. */
static void acknowledge(struct pump *pump, ssize_t got)
{
	const int on = 1;

	if (!pump->near_src)
		return;
	if (got < ACK_AFTER - pump->unanswered)
		pump->unanswered += (uint16_t)got;
	else
		pump->unanswered = ACK_AFTER;
	if (pump->unanswered >= ACK_AFTER && got < ACK_MOST)
		setsockopt(pump->src_fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

static ssize_t send_some(struct pump *pump, const char *data, size_t len, bool urgent)
{
	before_write(pump);
	return send(pump->dst_fd, data, len,
		    MSG_NOSIGNAL | (urgent && !pump->no_urgent ? MSG_OOB : 0));
}

static enum pump_result flush_kept(struct pump *pump)
{
	struct pump_kept *kept = pump->kept;
	ssize_t n;

	n = send_some(pump, kept->data + kept->off, kept->len, kept->urgent);
	if (n < 0)
		return write_result();
	pump->bytes += (uint64_t)n;
	kept->off += (uint32_t)n;
	kept->len -= (uint32_t)n;
	if (kept->len > 0)
		return PUMP_WAIT_WRITE;
	free(TAKE_PTR(pump->kept));
	return MOVED;
}

static enum pump_result flush_pipe(struct pump *pump, struct pump_env *env)
{
	ssize_t n;

	while (pump->in_pipe > 0) {
		before_write(pump);
		n = splice(pump->pipe->read_fd, NULL, pump->dst_fd, NULL, pump->in_pipe,
			   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n < 0)
			return write_result();
		pump->in_pipe -= (uint32_t)n;
		pump->bytes += (uint64_t)n;
		env->spliced += (uint64_t)n;
	}
	return MOVED;
}

static enum pump_result keep(struct pump *pump, const char *data, size_t len, bool urgent)
{
	struct pump_kept *kept = malloc(sizeof(*kept) + len);

	if (!kept)
		return PUMP_NO_MEMORY;
	*kept = (struct pump_kept){ .len = (uint32_t)len, .urgent = urgent };
	memcpy(kept->data, data, len);
	pump->kept = kept;
	return PUMP_WAIT_WRITE;
}

static enum pump_result copy(struct pump *pump, struct pump_env *env)
{
	ssize_t got, sent;
	bool urgent;

	if (pump->prefetch_error)
		return pump->prefetch_error;
	urgent = at_mark(pump);
	got = recv(pump->src_fd, env->scratch, urgent ? 1 : env->scratch_size, 0);
	if (got < 0)
		return read_result();
	if (got == 0)
		return PUMP_EOF;
	sent = send_some(pump, env->scratch, (size_t)got, urgent);
	if (sent < 0) {
		if (write_result() == PUMP_WRITE_ERROR)
			return PUMP_WRITE_ERROR;
		sent = 0;
	}
	pump->bytes += (uint64_t)sent;
	acknowledge(pump, got);
	if (sent < got)
		return keep(pump, env->scratch + sent, (size_t)(got - sent), urgent);
	/* A short read: the socket is empty, or has a FIN, which poll reports. */
	if ((size_t)got < env->scratch_size) {
		pump->full_reads = 0;
		return PUMP_WAIT_READ;
	}
	if (pump->full_reads < BULK_AFTER)
		pump->full_reads++;
	return MOVED;
}

/*
 * splice(2) is ambiguous. Before an urgent byte it fails with EAGAIN, or returns 0 if a FIN follows
 * that byte. It also fails with EAGAIN if it lacks memory. recv(2) tells these cases apart, so
 * copy() runs after each 0, and after EAGAIN in the first round. After EAGAIN in a later round
 * nothing is lost: if more is there, there will be another call.
 */
static enum pump_result splice_some(struct pump *pump, struct pump_env *env, uint64_t most,
				    bool first)
{
	ssize_t got;

	if (most > env->pipes->size)
		most = env->pipes->size;
	got = splice(pump->src_fd, NULL, pump->pipe->write_fd, NULL, most,
		     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (got < 0 && errno == EINVAL) {
		pump->no_splice = true;
		return MOVED;
	}
	if (got == 0 || (got < 0 && errno == EAGAIN && first))
		return copy(pump, env);
	if (got < 0)
		return read_result();
	if (got < BULK_LEAST)
		pump->full_reads = 0;
	pump->in_pipe = (uint32_t)got;
	acknowledge(pump, got);
	return flush_pipe(pump, env);
}

static enum pump_result run(struct pump *pump, struct pump_env *env)
{
	uint64_t until = pump->bytes + env->turn_bytes;
	enum pump_result r;
	int round;

	if (pump->kept) {
		r = flush_kept(pump);
		if (r != MOVED)
			return r;
		if (pump->short_read) {
			pump->short_read = false;
			return PUMP_WAIT_READ;
		}
	}
	r = flush_pipe(pump, env);
	if (r != MOVED)
		return r;
	for (round = 0; round < ROUNDS_MAX && pump->bytes < until; round++) {
		if (pump->full_reads >= BULK_AFTER && !pump->pipe && !pump->no_splice)
			pump->pipe = pipes_borrow(env->pipes);
		if (pump->full_reads >= BULK_AFTER && pump->pipe && !pump->no_splice)
			r = splice_some(pump, env, until - pump->bytes, round == 0);
		else
			r = copy(pump, env);
		if (r != MOVED)
			return r;
	}
	return PUMP_WAIT_READ;
}

size_t pump_held(const struct pump *pump)
{
	return pump->in_pipe + (pump->kept ? pump->kept->len : 0);
}

bool pump_is_bulk(const struct pump *pump)
{
	return pump->full_reads >= BULK_AFTER || pump->in_pipe;
}

bool pump_prefetch(struct pump *pump, struct pump_env *env)
{
	size_t most = env->scratch_size < PREFETCH_MAX ? env->scratch_size : PREFETCH_MAX;
	bool urgent = at_mark(pump);
	ssize_t got = recv(pump->src_fd, env->scratch, urgent ? 1 : most, 0);

	/* The kernel reports an error once only, but a FIN at every read. */
	if (got < 0 && read_result() == PUMP_READ_ERROR)
		pump->prefetch_error = PUMP_READ_ERROR;
	if (got > 0 && keep(pump, env->scratch, (size_t)got, urgent) == PUMP_NO_MEMORY)
		pump->prefetch_error = PUMP_NO_MEMORY;
	pump->short_read = got < (ssize_t)most;
	return pump->kept;
}

enum pump_result pump_run(struct pump *pump, struct pump_env *env)
{
	enum pump_result r = run(pump, env);

	if (pump->pipe && pump->in_pipe == 0) {
		int saved_errno = errno;

		pipes_return(env->pipes, pump->pipe);
		pump->pipe = NULL;
		errno = saved_errno;
	}
	return r;
}
