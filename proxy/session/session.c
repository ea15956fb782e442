// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See session.h. session_create() asks the kernel half for the original destination and has dial.c
 * connect. On success session_open() starts both halves. run() has a half move its data (half.c)
 * and acts on the result: only this file destroys sessions.
 *
 * A side that is not polled can be reset without an event: such sessions are on the probe list, see
 * session_watch(). Bulk halves do not run from their event: they queue on worker::bulk.
 *
 * A function that may destroy the session returns false if it did, or is the last call of its
 * caller. The sockets of a session are closed in session_destroy() only.
 */
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/origdst.h"
#include "kernel/registration.h"
#include "log.h"
#include "monotonic.h"
#include "report/connlog.h"
#include "dial.h"
#include "quota.h"
#include "sock.h"
#include "tuning.h"
#include "tproxy_abi.h"
#include "util.h"
#include "worker/bulk.h"
#include "worker/handoff.h"
#include "worker/tick.h"
#include "worker/worker.h"

static struct half *other_half(struct half *h)
{
	return h == &h->session->up ? &h->session->down : &h->session->up;
}

static enum session_side source_of(const struct half *h)
{
	return h == &h->session->up ? SESSION_CLIENT : SESSION_SERVER;
}

static enum close_reason reset_reason(enum session_side by)
{
	return by == SESSION_CLIENT ? CLOSE_RESET_BY_CLIENT : CLOSE_RESET_BY_SERVER;
}

void session_woke(struct session *s)
{
	if (!s->settled)
		s->worker->crowd.served++;
	busypoll_woke(&s->worker->busypoll);
}

void session_watch(struct session *s)
{
	bool deaf = s->state == SESSION_CONNECTING || !s->up.reading || !s->down.reading;

	if (deaf && !s->deaf)
		TAILQ_INSERT_TAIL(&s->worker->deaf, s, deaf_entry);
	else if (!deaf && s->deaf)
		TAILQ_REMOVE(&s->worker->deaf, s, deaf_entry);
	s->worker->n_deaf += (uint32_t)deaf - (uint32_t)s->deaf;
	s->deaf = deaf;
}

/*
 * The client has sent data and waits for an answer. Its kernel may hold back more data until the
 * first is acknowledged (Nagle's algorithm; on loopback even what is a full segment elsewhere). The
 * kernel on our side delays the acknowledgement by 40 ms once there was an answer. If no answer
 * comes before the worker sleeps, the worker has the acknowledgement sent alone.
 */
static void owe_ack(struct session *s)
{
	if (s->unacked || !s->up.pump.unanswered || !s->down.pump.bytes)
		return;
	s->unacked = true;
	worker_owe_ack(s->worker, s);
}

static void forget_ack(struct session *s)
{
	if (!s->unacked)
		return;
	s->unacked = false;
	worker_forget_ack(s->worker, s);
}

static void close_side(int fd, bool reset)
{
	if (reset)
		sock_close_reset(fd);
	else
		sock_close_well(fd);
}

static void count_end(struct worker *worker, enum close_reason reason)
{
	if (reason == CLOSE_NO_MEMORY && log_episode_begins(&worker->limit->no_memory))
		log_warning("out of memory: connections are reset");
	stats_add(&worker->stats.closed[reason], 1);
}

/* Stops counting s as a new session (crowd.h). */
static void leave_crowd(struct session *s)
{
	if (s->worker->unsettled == s)
		s->worker->unsettled = TAILQ_PREV(s, session_list, entry);
	s->worker->crowd.sessions--;
}

/* Takes s off all lists of its worker but that of new sessions. */
static void leave_worker(struct session *s)
{
	struct worker *worker = s->worker;

	bulk_unqueue(worker, &s->up);
	bulk_unqueue(worker, &s->down);
	forget_ack(s);
	deadline_clear(&s->deadline);
	if (s->deaf) {
		TAILQ_REMOVE(&worker->deaf, s, deaf_entry);
		worker->n_deaf--;
		s->deaf = false;
	}
	TAILQ_REMOVE(&worker->sessions, s, entry);
}

void session_destroy(struct session *s, enum close_reason reason)
{
	struct worker *worker = s->worker;
	struct stats *stats = &worker->stats;

	connlog_end(s, reason);
	count_end(worker, reason);
	stats_add(&stats->bytes_up, s->up.pump.bytes);
	stats_add(&stats->bytes_down, s->down.pump.bytes);
	stats_add(&stats->spliced, s->up.pump.spliced + s->down.pump.spliced);
	half_finish(&s->up, &worker->tools);
	half_finish(&s->down, &worker->tools);
	if (!s->settled)
		leave_crowd(s);
	leave_worker(s);
	if (s->cgroup_id)
		quota_give(&worker->limit->per_cgroup, s->cgroup_id);
	/* Reset also the side that seems to have reset: the error may have come from our kernel. */
	close_side(s->client_fd, reason != CLOSE_DONE);
	close_side(s->server_fd, reason != CLOSE_DONE);
	free(s);
	worker_on_session_end(worker);
}

static void set_timeout(struct session *s, struct deadline_queue *queue)
{
	deadline_set(&s->deadline, queue);
	s->quiet_since_ms = s->deadline.touched_ms;
}

/* h is done. Passes the FIN on, or ends the session. Returns false if it destroyed the session. */
static bool half_end(struct half *h)
{
	struct session *s = h->session;

	/* close() sends the last FIN. */
	if (other_half(h)->done) {
		session_destroy(s, CLOSE_DONE);
		return false;
	}
	/* ENOTCONN: the destination has just been reset. The other half will see that. */
	shutdown(h->pump.dst_fd, SHUT_WR);
	s->state = SESSION_HALF_CLOSED;
	set_timeout(s, &s->worker->half_closed);
	session_watch(s);
	return true;
}

void session_reset_by(struct session *s, enum session_side by)
{
	half_flush(by == SESSION_CLIENT ? &s->up : &s->down, &s->worker->tools);
	session_destroy(s, reset_reason(by));
}

/* Bytes of h have moved. */
static void note_moved(struct half *h)
{
	struct session *s = h->session;

	deadline_touch(&s->deadline);
	other_half(h)->pump.unanswered = 0;
	if (h == &s->down)
		forget_ack(s);
	else
		owe_ack(s);
}

/* Moves the data that can be moved in one direction. Returns false if it destroyed the session. */
static bool run(struct half *h)
{
	struct session *s = h->session;
	uint64_t bytes = h->pump.bytes;
	enum half_result r = half_run(h, &s->worker->tools);

	if (h->pump.bytes != bytes)
		note_moved(h);
	switch (r) {
	case HALF_WAITS:
		session_watch(s);
		return true;
	case HALF_EOF:
		return half_end(h);
	case HALF_SOURCE_RESET:
		session_destroy(s, reset_reason(source_of(h)));
		return false;
	case HALF_DESTINATION_RESET:
		session_reset_by(s, source_of(other_half(h)));
		return false;
	case HALF_NO_MEMORY:
		session_destroy(s, CLOSE_NO_MEMORY);
		return false;
	}
	return true;
}

static void on_ready(struct half *h, bool again)
{
	session_woke(h->session);
	/* Small messages run before bulk. If the half cannot wait for its turn, it runs now. */
	if (again && pump_is_bulk(&h->pump)) {
		handoff_note_bulk(h->session);
		if (bulk_queue(h->session->worker, h))
			return;
	} else if (again && handoff_small(h->session)) {
		return;
	}
	run(h);
}

void session_run_bulk(struct half *h)
{
	if (!handoff_bulk(h->session))
		run(h);
}

/*
 * True if an I/O event is pending for s. The timer may fire before it: after the relay or its
 * machine was stopped, all timeouts have expired at once.
 */
static bool has_work(const struct session *s)
{
	struct pollfd fds[] = {
		{ .fd = s->up.reading ? s->client_fd : -1, .events = POLLIN },
		{ .fd = s->up.writing ? s->server_fd : -1, .events = POLLOUT },
		{ .fd = s->down.reading ? s->server_fd : -1, .events = POLLIN },
		{ .fd = s->down.writing ? s->client_fd : -1, .events = POLLOUT },
	};

	/* If poll() fails, assume there is work: ending a live session is worse. */
	return poll(fds, ARRAY_SIZE(fds), 0) != 0;
}

/*
 * Checks for progress since the last check. A slow receiver drains a socket's buffer without an
 * event, so bytes that its kernel has acknowledged count as progress too.
 */
static void note_progress(struct session *s)
{
	uint64_t moved = s->up.pump.bytes + s->down.pump.bytes;
	uint64_t waiting = sock_queued(s->client_fd) + sock_queued(s->server_fd);

	if (moved == s->moved && moved - waiting == s->acknowledged)
		return;
	s->moved = moved;
	s->acknowledged = moved - waiting;
	s->excused = false;
	/* Nothing is queued: quiet since the last move of data, or since the last check. */
	s->quiet_since_ms = waiting ? monotonic_coarse_ms() : s->deadline.touched_ms;
}

/* True if the timeout of s has expired without progress and without a pending event. */
static bool is_over(struct session *s)
{
	note_progress(s);
	if (monotonic_coarse_ms() - s->quiet_since_ms < s->deadline.queue->timeout_ms)
		return false;
	/* One more interval only: a pending event may bring no data that can be moved. */
	if (s->excused || !has_work(s))
		return true;
	s->excused = true;
	return false;
}

void session_expire(struct session *s, enum close_reason reason)
{
	bool over = s->state == SESSION_CONNECTING ? !has_work(s) : is_over(s);

	if (!over) {
		deadline_set(&s->deadline, s->deadline.queue);
		return;
	}
	if (reason == CLOSE_CONNECT_TIMEOUT) {
		s->dial_error = ETIMEDOUT;
		registration_note_error(&s->worker->handle, &s->dst, ETIMEDOUT);
	}
	session_destroy(s, reason);
}

void session_probe(struct session *s)
{
	struct pollfd fds[] = { { .fd = s->client_fd }, { .fd = s->server_fd } };

	/* Only the client's socket while the server's is not connected. */
	if (poll(fds, s->state == SESSION_CONNECTING ? 1 : 2, 0) <= 0)
		return;
	/* POLLHUP does not mean a reset: it is also set after both FINs, one of them unread. */
	if (fds[0].revents & POLLERR)
		session_reset_by(s, SESSION_CLIENT);
	else if (fds[1].revents & POLLERR)
		session_reset_by(s, SESSION_SERVER);
}

void session_acknowledge(struct session *s)
{
	sock_set_quickack(s->client_fd, true);
	forget_ack(s);
}

void session_open(struct session *s)
{
	bool acks_late = s->up.pump.kept;

	s->state = SESSION_OPEN;
	set_timeout(s, &s->worker->idle);
	/* Most clients have sent data by now: read at once rather than wait for an event. */
	if (!run(&s->up))
		return;
	if (acks_late)
		sock_set_quickack(s->server_fd, true);
	if (half_wait_read(&s->down) < 0)
		session_destroy(s, CLOSE_NO_MEMORY);
	else
		session_watch(s);
}

/* Counts the connection for its client's cgroup. Returns false, and destroys s, at the limit. */
static bool count_client(struct session *s, uint64_t cgroup_id)
{
	struct quota *quota = &s->worker->limit->per_cgroup;

	if (!quota_wanted(quota))
		return true;
	switch (quota_take(quota, cgroup_id)) {
	case QUOTA_TAKEN:
		s->cgroup_id = cgroup_id;
		return true;
	case QUOTA_REACHED:
		session_destroy(s, CLOSE_CGROUP_LIMIT);
		return false;
	case QUOTA_NO_MEMORY:
		session_destroy(s, CLOSE_NO_MEMORY);
		return false;
	}
	return true;
}

/*
 * --pass-mark: sets the client's SO_MARK on the server's socket, so that the host routes both
 * alike. On failure the connection must not take another route: destroys s and returns false.
 */
static bool pass_mark(struct session *s, uint32_t mark)
{
	if (!s->worker->pass_mark || !mark ||
	    setsockopt(s->server_fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0)
		return true;
	dial_failed(s, errno);
	return false;
}

/* Keepalive ends the session of a server whose host has vanished, long before the idle timeout. */
void session_settle(struct session *s)
{
	tuning_pass_options_on(s);
	tuning_set_keepidle(s);
	s->settled = true;
	leave_crowd(s);
}

void session_detach(struct session *s)
{
	half_detach(&s->up);
	half_detach(&s->down);
	leave_worker(s);
	s->worker = NULL;
	s->handoff = 0;
}

void session_attach(struct session *s, struct worker *worker)
{
	int r, r_down;

	s->worker = worker;
	/* At the tail: s is settled, and sessions that are not settled are at the head. */
	TAILQ_INSERT_TAIL(&worker->sessions, s, entry);
	deadline_set(&s->deadline,
		     s->state == SESSION_HALF_CLOSED ? &worker->half_closed : &worker->idle);
	r = half_attach(&s->up, worker->base);
	r_down = half_attach(&s->down, worker->base);
	if (r < 0 || r_down < 0) {
		session_destroy(s, CLOSE_NO_MEMORY);
		return;
	}
	/* The configuration may have changed while s was on its way. */
	if (s->keepidle_s != worker->keepidle_s)
		tuning_set_keepidle(s);
	session_watch(s);
	tick_need(worker);
}

void session_create(struct worker *worker, int client_fd, int server_fd,
		    const union sockaddr_any *client, bool crowded)
{
	struct session *s = calloc(1, sizeof(*s));
	struct tproxy_conn conn;

	if (!s) {
		sock_close_reset(client_fd);
		close(server_fd);
		count_end(worker, CLOSE_NO_MEMORY);
		worker_on_session_end(worker);
		return;
	}
	s->worker = worker;
	s->client_fd = client_fd;
	s->server_fd = server_fd;
	s->client = *client;
	s->started_ms = monotonic_coarse_ms();
	half_init(&s->up, s, worker->base, client_fd, server_fd, on_ready);
	half_init(&s->down, s, worker->base, server_fd, client_fd, on_ready);
	s->up.pump.nagle = true;
	s->up.pump.near_src = true;
	TAILQ_INSERT_HEAD(&worker->sessions, s, entry);
	if (!worker->unsettled)
		worker->unsettled = s;
	worker->crowd.sessions++;
	connlog_start(s);
	tick_need(worker);

	if (origdst_get(client_fd, client->sa.sa_family, &s->dst, &conn) != ORIGDST_FOUND) {
		session_destroy(s, CLOSE_NO_DESTINATION);
		return;
	}
	if (count_client(s, conn.cgroup_id) && pass_mark(s, conn.mark))
		dial_start(s, crowded);
}
