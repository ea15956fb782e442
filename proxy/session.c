// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See session.h. session_create() asks the kernel half for the original destination and connects.
 * On success session_open() starts both halves. half_run() moves the data of one direction
 * (pump.c), then waits for the next event or ends the half.
 *
 * Events are level-triggered, so a half may stop early and continues with the next event. A side
 * that is not polled can be reset without an event: such sessions are on the probe list, see
 * watch(). Bulk halves do not run from their event: they queue on worker::bulk.
 *
 * A function that may destroy the session returns false if it did, or is the last call of its
 * caller. The sockets of a session are closed in session_destroy() only.
 */
#include "session.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "connlog.h"
#include "handoff.h"
#include "log.h"
#include "origdst.h"
#include "parse.h"
#include "quota.h"
#include "registration.h"
#include "tproxy_abi.h"
#include "util.h"
#include "worker.h"

/*
 * How long a half waits when its destination is writable but takes no data, as when TCP is out of
 * memory (tcp_mem, tcp(7)). Polling it would spin.
 */
#define BACKOFF_MS 10

static bool half_run(struct half *h);

static int set_linger(int fd, bool abort)
{
	const struct linger linger = { .l_onoff = abort, .l_linger = 0 };

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0 ? -errno : 0;
}

int session_abort_on_close(int fd)
{
	return set_linger(fd, true);
}

void session_close_reset(int fd)
{
	const struct sockaddr unspec = { .sa_family = AF_UNSPEC };

	/* If setsockopt() is refused, for example by a foreign BPF program, disconnecting resets
	 * too (connect(2)). */
	if (session_abort_on_close(fd) < 0)
		connect(fd, &unspec, sizeof(unspec));
	close(fd);
}

void session_prepare(int fd)
{
	const int on = 1;

	session_abort_on_close(fd);
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
}

/* Closes fd so that queued data is still sent, followed by a FIN. */
static void close_well(int fd)
{
	/* Try again once, in case the failure was transient. If it persists, the peer gets a reset.
	 */
	if (set_linger(fd, false) < 0)
		set_linger(fd, false);
	close(fd);
}

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

/*
 * Every event callback calls this first. It feeds the accept throttle (crowd.h) and the spin
 * heuristic (busypoll.h), which both need to know that this worker had work.
 */
static void woke(struct session *s)
{
	if (!s->settled)
		s->worker->crowd.served++;
	busypoll_woke(&s->worker->busypoll);
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct half *h = arg;

	woke(h->session);
	/* Small messages run before bulk. If the half cannot be queued, it runs now. */
	if (pump_is_bulk(&h->pump)) {
		handoff_note_bulk(h->session);
		if (worker_queue_bulk(h->session->worker, h))
			return;
	} else if (handoff_small(h->session)) {
		return;
	}
	half_run(h);
}

void session_run_bulk(struct half *h)
{
	if (!handoff_bulk(h->session))
		half_run(h);
}

static void half_init(struct half *h, struct session *s, int src_fd, int dst_fd)
{
	*h = (struct half){ .session = s };
	pump_init(&h->pump, src_fd, dst_fd);
	event_assign(&h->read_event, s->worker->base, src_fd, EV_READ | EV_PERSIST, on_ready, h);
}

static void stop_reading(struct half *h)
{
	if (h->reading)
		event_del(&h->read_event);
	h->reading = false;
}

static void stop_writing(struct half *h)
{
	if (h->writing)
		event_del(h->write_event);
	h->writing = false;
}

static void half_finish(struct half *h)
{
	stop_reading(h);
	stop_writing(h);
	worker_unqueue_bulk(h->session->worker, h);
	if (h->write_event)
		event_free(h->write_event);
	h->write_event = NULL;
	pump_finish(&h->pump, &h->session->worker->tools);
}

/*
 * Updates the membership on the probe list. A side that is not read from may be reset without an
 * event. The worker's tick probes the sessions on this list, see session_probe().
 */
static void watch(struct session *s)
{
	bool deaf = s->state == SESSION_CONNECTING || !s->up.reading || !s->down.reading;

	if (deaf && !s->deaf)
		TAILQ_INSERT_TAIL(&s->worker->deaf, s, deaf_entry);
	else if (!deaf && s->deaf)
		TAILQ_REMOVE(&s->worker->deaf, s, deaf_entry);
	s->worker->n_deaf += (uint32_t)deaf - (uint32_t)s->deaf;
	s->deaf = deaf;
}

static int wait_read(struct half *h)
{
	if (h->reading)
		return 0;
	stop_writing(h);
	if (event_add(&h->read_event, NULL) < 0)
		return -ENOMEM;
	h->reading = true;
	watch(h->session);
	return 0;
}

static int wait_write(struct half *h, event_callback_fn fn, void *arg)
{
	stop_reading(h);
	if (!h->write_event)
		h->write_event = event_new(h->session->worker->base, h->pump.dst_fd,
					   EV_WRITE | EV_PERSIST, fn, arg);
	if (!h->write_event || (!h->writing && event_add(h->write_event, NULL) < 0))
		return -ENOMEM;
	h->writing = true;
	watch(h->session);
	return 0;
}

static void on_backoff_over(evutil_socket_t fd, short what, void *arg)
{
	struct half *h = arg;

	busypoll_woke(&h->session->worker->busypoll);
	h->writing = false;
	event_free(TAKE_PTR(h->write_event));
	half_run(h);
}

/* Replaces the write event of h by a timer of BACKOFF_MS. Returns 0 or -ENOMEM. */
static int back_off(struct half *h)
{
	const struct timeval delay = { .tv_usec = BACKOFF_MS * 1000 };

	stop_writing(h);
	event_free(TAKE_PTR(h->write_event));
	h->write_event = evtimer_new(h->session->worker->base, on_backoff_over, h);
	if (!h->write_event || event_add(h->write_event, &delay) < 0)
		return -ENOMEM;
	h->writing = true;
	return 0;
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
		session_close_reset(fd);
	else
		close_well(fd);
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

void session_destroy(struct session *s, enum close_reason reason)
{
	struct worker *worker = s->worker;
	struct stats *stats = &worker->stats;

	connlog_end(s, reason);
	count_end(worker, reason);
	stats_add(&stats->bytes_up, s->up.pump.bytes);
	stats_add(&stats->bytes_down, s->down.pump.bytes);
	stats_add(&stats->spliced, s->up.pump.spliced + s->down.pump.spliced);
	half_finish(&s->up);
	half_finish(&s->down);
	forget_ack(s);
	deadline_clear(&s->deadline);
	if (s->deaf) {
		TAILQ_REMOVE(&worker->deaf, s, deaf_entry);
		worker->n_deaf--;
	}
	if (!s->settled)
		leave_crowd(s);
	TAILQ_REMOVE(&worker->sessions, s, entry);
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

/* The source has sent its FIN, and all its data is written. Returns false if it destroyed the
 * session. */
static bool half_end(struct half *h)
{
	struct session *s = h->session;

	h->done = true;
	stop_reading(h);
	stop_writing(h);
	/* close() sends the last FIN. */
	if (other_half(h)->done) {
		session_destroy(s, CLOSE_DONE);
		return false;
	}
	/* ENOTCONN: the destination has just been reset. The other half will see that. */
	shutdown(h->pump.dst_fd, SHUT_WR);
	s->state = SESSION_HALF_CLOSED;
	set_timeout(s, &s->worker->half_closed);
	watch(s);
	return true;
}

/*
 * The side @by has been reset. Data that it sent before, and that our kernel acknowledged, may
 * still be unread. That data goes to the other side first, as far as the other side takes it, and
 * then the reset. Only what is there now is moved: if another error was taken for a reset, more
 * data may come without end. Destroys the session.
 */
static void reset_by(struct session *s, enum session_side by)
{
	struct half *from = by == SESSION_CLIENT ? &s->up : &s->down;
	uint64_t until, bytes;
	int waiting = 0;

	ioctl(from->pump.src_fd, SIOCINQ, &waiting);
	until = from->pump.bytes + from->pump.kept_len + from->pump.piped + (uint64_t)waiting;
	do {
		bytes = from->pump.bytes;
	} while (!from->done && pump_run(&from->pump, &s->worker->tools) == PUMP_WAIT_READ &&
		 from->pump.bytes != bytes && from->pump.bytes < until);
	session_destroy(s, reset_reason(by));
}

/* Moves the data that can be moved in one direction. Returns false if it destroyed the session. */
static bool half_run(struct half *h)
{
	struct session *s = h->session;
	uint64_t bytes = h->pump.bytes;
	bool writable = h->writing; /* by an event */
	enum pump_result r;
	int waits = 0;

	r = pump_run(&h->pump, &s->worker->tools);
	if (h->pump.bytes != bytes) {
		deadline_touch(&s->deadline);
		other_half(h)->pump.unanswered = 0;
		if (h == &s->down)
			forget_ack(s);
		else
			owe_ack(s);
	}
	switch (r) {
	case PUMP_WAIT_READ:
		waits = wait_read(h);
		break;
	case PUMP_WAIT_WRITE:
		if (writable && h->pump.bytes == bytes)
			waits = back_off(h);
		else
			waits = wait_write(h, on_ready, h);
		break;
	case PUMP_EOF:
		return half_end(h);
	case PUMP_READ_ERROR:
		/* All that the source sent is written: nothing is left to flush. */
		session_destroy(s, reset_reason(source_of(h)));
		return false;
	case PUMP_WRITE_ERROR:
		reset_by(s, source_of(other_half(h)));
		return false;
	case PUMP_NO_MEMORY:
		waits = -ENOMEM;
		break;
	}
	if (waits < 0)
		session_destroy(s, CLOSE_NO_MEMORY);
	return waits == 0;
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

/* Returns how many bytes written to fd its peer has not acknowledged; 0 if unknown. */
static uint64_t queued(int fd)
{
	int n;

	return ioctl(fd, SIOCOUTQ, &n) == 0 ? (uint64_t)n : 0;
}

/*
 * Checks for progress since the last check. A slow receiver drains a socket's buffer without an
 * event, so bytes that its kernel has acknowledged count as progress too.
 */
static void note_progress(struct session *s)
{
	uint64_t moved = s->up.pump.bytes + s->down.pump.bytes;
	uint64_t waiting = queued(s->client_fd) + queued(s->server_fd);

	if (moved == s->moved && moved - waiting == s->acknowledged)
		return;
	s->moved = moved;
	s->acknowledged = moved - waiting;
	s->excused = false;
	/* Nothing is queued: quiet since the last move of data, or since the last check. */
	s->quiet_since_ms = waiting ? deadline_now_ms() : s->deadline.touched_ms;
}

/* True if the timeout of s has expired without progress and without a pending event. */
static bool is_over(struct session *s)
{
	note_progress(s);
	if (deadline_now_ms() - s->quiet_since_ms < s->deadline.queue->timeout_ms)
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
		reset_by(s, SESSION_CLIENT);
	else if (fds[1].revents & POLLERR)
		reset_by(s, SESSION_SERVER);
}

/*
 * TCP_QUICKACK (tcp(7)). On, as on a new socket: the kernel acknowledges data immediately. Off: it
 * delays the acknowledgement, so that it can go with our first data.
 */
static void set_quickack(int fd, int on)
{
	setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

void session_acknowledge(struct session *s)
{
	set_quickack(s->client_fd, true);
	forget_ack(s);
}

/* connect() has succeeded: starts both halves. May destroy the session. */
static void session_open(struct session *s)
{
	bool acks_late = s->up.pump.kept;

	s->state = SESSION_OPEN;
	set_timeout(s, &s->worker->idle);
	/* Most clients have sent data by now: read at once rather than wait for an event. */
	if (!half_run(&s->up))
		return;
	if (acks_late)
		set_quickack(s->server_fd, true);
	if (wait_read(&s->down) < 0)
		session_destroy(s, CLOSE_NO_MEMORY);
}

/* True if connect() failed for a local reason, which says nothing about the destination. */
static bool is_local(int error)
{
	return error == EADDRNOTAVAIL || error == EADDRINUSE || error == EAGAIN ||
	       error == ENOBUFS || error == ENOMEM || error == EPERM || error == EACCES;
}

/* connect() to the server failed with errno error. Destroys the session. */
static void dial_failed(struct session *s, int error)
{
	char dst[FORMAT_ENDPOINT_LEN];

	/*
	 * The server accepted, possibly sent data, and reset, all before this worker got the event.
	 * (A refused connect() fails with ECONNREFUSED.) Pass its data on before the reset.
	 */
	if (error == ECONNRESET || error == EPIPE) {
		reset_by(s, SESSION_SERVER);
		return;
	}
	format_endpoint(&s->dst, dst);
	if (is_local(error) && log_episode_begins(&s->worker->limit->dial_failed))
		log_warning("this host does not let us connect, to %s and maybe others: %s", dst,
			    strerror(error));
	else
		log_debug("cannot connect to %s: %s", dst, strerror(error));
	registration_note_error(&s->worker->handle, &s->dst, error);
	s->dial_error = error;
	session_destroy(s, CLOSE_DIAL_FAILED);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	int error = 0;
	socklen_t len = sizeof(error);

	woke(s);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		dial_failed(s, error);
		return;
	}
	/* This event's callback was for connect(); on_ready() needs a new one. */
	stop_writing(&s->up);
	event_free(TAKE_PTR(s->up.write_event));
	session_open(s);
}

/* Returns 0 if connected, -EINPROGRESS while the handshake is under way, or another -errno. */
static int dial(int fd, const union sockaddr_any *dst)
{
	if (connect(fd, &dst->sa, sockaddr_len(dst)) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	/* The handshake with a nearby server may be complete. Calling again is cheaper than poll().
	 */
	if (connect(fd, &dst->sa, sockaddr_len(dst)) == 0)
		return 0;
	return errno == EALREADY ? -EINPROGRESS : -errno;
}

/*
 * Connects to the server. Under load the client's first data is read before connect(), and the last
 * segment of the handshake goes with this data. It goes immediately if the server has not answered
 * by then. This saves about one segment in 20 for each connection, but delays the wakeup of an idle
 * server by some microseconds, so it is done only under load. May destroy the session.
 */
static void session_dial(struct session *s, bool crowded)
{
	bool early = crowded && pump_prefetch(&s->up.pump, &s->worker->tools);
	int r;

	if (early)
		set_quickack(s->server_fd, false);
	r = dial(s->server_fd, &s->dst);
	if (r == 0) {
		session_open(s);
	} else if (r == -EINPROGRESS) {
		if (early)
			set_quickack(s->server_fd, true);
		deadline_set(&s->deadline, &s->worker->connecting);
		if (wait_write(&s->up, on_connected, s) < 0)
			session_destroy(s, CLOSE_NO_MEMORY);
	} else {
		dial_failed(s, -r);
	}
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

static int get_tcp(int fd, int name)
{
	socklen_t len = sizeof(int);
	int value = 0;

	return getsockopt(fd, IPPROTO_TCP, name, &value, &len) == 0 ? value : 0;
}

static void set_tcp(int fd, int name, int value)
{
	setsockopt(fd, IPPROTO_TCP, name, &value, sizeof(value));
}

/* The interval of the probes is the host's if that is shorter; otherwise keepidle_s. */
void session_set_keepidle(struct session *s)
{
	const int idle_s = s->worker->keepidle_s, on = idle_s > 0;

	s->keepidle_s = idle_s;
	if (s->keeps_own)
		return;
	setsockopt(s->server_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (!on)
		return;
	set_tcp(s->server_fd, TCP_KEEPIDLE, idle_s);
	if (get_tcp(s->server_fd, TCP_KEEPINTVL) > idle_s)
		set_tcp(s->server_fd, TCP_KEEPINTVL, idle_s);
}

/* Copies to the server's socket the options that the client set on its own before connect(). */
static void pass_options_on(struct session *s)
{
	const int on = 1;
	struct tproxy_conn conn;

	if (origdst_get_conn(s->client_fd, &conn) < 0)
		return;
	if (conn.user_timeout_ms)
		set_tcp(s->server_fd, TCP_USER_TIMEOUT, (int)conn.user_timeout_ms);
	if (!conn.keep_alive || !conn.keep_idle_s || !conn.keep_intvl_s || !conn.keep_probes)
		return;
	s->keeps_own = true;
	set_tcp(s->server_fd, TCP_KEEPIDLE, conn.keep_idle_s);
	set_tcp(s->server_fd, TCP_KEEPINTVL, conn.keep_intvl_s);
	set_tcp(s->server_fd, TCP_KEEPCNT, conn.keep_probes);
	setsockopt(s->server_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* Keepalive ends the session of a server whose host has vanished, long before the idle timeout. */
void session_settle(struct session *s)
{
	pass_options_on(s);
	session_set_keepidle(s);
	s->settled = true;
	leave_crowd(s);
}

static void half_detach(struct half *h)
{
	struct worker *worker = h->session->worker;

	if (h->reading)
		event_del(&h->read_event);
	if (h->writing)
		event_del(h->write_event);
	worker_unqueue_bulk(worker, h);
}

/* Adds the events that h waited for to its new worker. Returns 0 or -ENOMEM. */
static int half_attach(struct half *h)
{
	const struct timeval delay = { .tv_usec = BACKOFF_MS * 1000 };
	struct worker *worker = h->session->worker;
	bool backs_off = h->write_event && event_get_fd(h->write_event) < 0;

	event_base_set(worker->base, &h->read_event);
	if (h->write_event)
		event_base_set(worker->base, h->write_event);
	if ((h->reading && event_add(&h->read_event, NULL) < 0) ||
	    (h->writing && event_add(h->write_event, backs_off ? &delay : NULL) < 0))
		return -ENOMEM;
	return 0;
}

void session_detach(struct session *s)
{
	struct worker *worker = s->worker;

	half_detach(&s->up);
	half_detach(&s->down);
	forget_ack(s);
	deadline_clear(&s->deadline);
	if (s->deaf) {
		TAILQ_REMOVE(&worker->deaf, s, deaf_entry);
		worker->n_deaf--;
		s->deaf = false;
	}
	TAILQ_REMOVE(&worker->sessions, s, entry);
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
	r = half_attach(&s->up);
	r_down = half_attach(&s->down);
	if (r < 0 || r_down < 0) {
		session_destroy(s, CLOSE_NO_MEMORY);
		return;
	}
	/* The configuration may have changed while s was on its way. */
	if (s->keepidle_s != worker->keepidle_s)
		session_set_keepidle(s);
	watch(s);
	worker_need_tick(worker);
}

void session_create(struct worker *worker, int client_fd, int server_fd,
		    const union sockaddr_any *client, bool crowded)
{
	struct session *s = calloc(1, sizeof(*s));
	struct tproxy_conn conn;

	if (!s) {
		session_close_reset(client_fd);
		close(server_fd);
		count_end(worker, CLOSE_NO_MEMORY);
		worker_on_session_end(worker);
		return;
	}
	s->worker = worker;
	s->client_fd = client_fd;
	s->server_fd = server_fd;
	s->client = *client;
	s->started_ms = deadline_now_ms();
	half_init(&s->up, s, client_fd, server_fd);
	half_init(&s->down, s, server_fd, client_fd);
	s->up.pump.nagle = true;
	s->up.pump.near_src = true;
	TAILQ_INSERT_HEAD(&worker->sessions, s, entry);
	if (!worker->unsettled)
		worker->unsettled = s;
	worker->crowd.sessions++;
	connlog_start(s);
	worker_need_tick(worker);

	if (origdst_get(client_fd, client->sa.sa_family, &s->dst, &conn) != ORIGDST_FOUND) {
		session_destroy(s, CLOSE_NO_DESTINATION);
		return;
	}
	if (count_client(s, conn.cgroup_id) && pass_mark(s, conn.mark))
		session_dial(s, crowded);
}
