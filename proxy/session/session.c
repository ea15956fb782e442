// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See session.h. session_create() asks the kernel half for the original destination and connects.
 * On success open_session() starts both halves. run() has a half move its data (half.c) and acts on
 * the result: only this file destroys sessions.
 *
 * A side that is not polled can be reset without an event: such sessions are on the probe list, see
 * watch(). The owner of the environment may defer a half that is ready (session_env::defer), as it
 * does with bulk data.
 *
 * A function that may destroy the session returns false if it did, or is the last call of its
 * caller. The sockets of a session are closed in session_destroy() only.
 */
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/origdst.h"
#include "kernel/registration.h"
#include "log.h"
#include "monotonic.h"
#include "report/connlog.h"
#include "connect.h"
#include "sock.h"
#include "tuning.h"
#include "tproxy_abi.h"
#include "util.h"

/* How often an inactive session is checked for progress within its timeout, see is_over(). */
#define LOOKS 8

/* Callback of busypoll.h. */
static void send_acks(void *arg, bool all)
{
	struct session_env *env = arg;

	ack_send(&env->acks, all);
}

void session_env_init(struct session_env *env)
{
	TAILQ_INIT(&env->sessions);
	TAILQ_INIT(&env->deaf);
	ack_queue_init(&env->acks);
	env->busypoll.debts = &env->acks.n;
	env->busypoll.pay = send_acks;
	env->busypoll.pay_arg = env;
	deadline_queue_init(&env->connecting);
	deadline_queue_init(&env->idle);
	deadline_queue_init(&env->half_closed);
	env->idle.looks = env->half_closed.looks = LOOKS;
	half_queue_init(&env->bulk);
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
 * heuristic (busypoll.h).
 */
static void note_event(struct session *s)
{
	if (!s->settled)
		s->env->crowd.served++;
	busypoll_woke(&s->env->busypoll);
}

/*
 * Updates the membership on the probe list: a side that is not read from may be reset without an
 * event. The owner of the environment probes the sessions on this list, see session_probe().
 */
static void watch(struct session *s)
{
	bool deaf = s->state == SESSION_CONNECTING || !s->up.reading || !s->down.reading;

	if (deaf && !s->deaf)
		TAILQ_INSERT_TAIL(&s->env->deaf, s, deaf_entry);
	else if (!deaf && s->deaf)
		TAILQ_REMOVE(&s->env->deaf, s, deaf_entry);
	s->env->n_deaf += (uint32_t)deaf - (uint32_t)s->deaf;
	s->deaf = deaf;
}

static void close_side(int fd, bool reset)
{
	if (reset)
		sock_close_reset(fd);
	else
		sock_close_well(fd);
}

static void count_end(struct session_env *env, enum close_reason reason)
{
	if (reason == CLOSE_NO_MEMORY && log_episode_begins(&env->shared->no_memory))
		log_warning("out of memory: connections are reset");
	stats_add(&env->stats.closed[reason], 1);
}

static void tell_end(struct session_env *env)
{
	if (env->on_end)
		env->on_end(env);
}

/* Stops counting s as a new session (crowd.h). */
static void leave_crowd(struct session *s)
{
	if (s->env->unsettled == s)
		s->env->unsettled = TAILQ_PREV(s, session_list, entry);
	s->env->crowd.sessions--;
}

/* Takes s off all lists of its environment but that of new sessions. */
static void leave_env(struct session *s)
{
	struct session_env *env = s->env;

	half_queue_remove(&env->bulk, &s->up);
	half_queue_remove(&env->bulk, &s->down);
	ack_forget(&env->acks, &s->ack);
	deadline_clear(&s->deadline);
	if (s->deaf) {
		TAILQ_REMOVE(&env->deaf, s, deaf_entry);
		env->n_deaf--;
		s->deaf = false;
	}
	TAILQ_REMOVE(&env->sessions, s, entry);
}

static void report(const struct session *s, enum close_reason reason)
{
	struct stats *stats = &s->env->stats;
	const struct conn_report report = {
		.client = &s->client,
		.dst = &s->dst,
		.server_fd = s->state == SESSION_CONNECTING ? -1 : s->server_fd,
		.started_ms = s->started_ms,
		.bytes_up = s->up.pump.bytes,
		.bytes_down = s->down.pump.bytes,
		.reason = reason,
		.error = s->dial_error,
		.who = s->who,
	};

	connlog_print(&report);
	count_end(s->env, reason);
	stats_add(&stats->bytes_up, s->up.pump.bytes);
	stats_add(&stats->bytes_down, s->down.pump.bytes);
	stats_add(&stats->spliced, s->up.pump.spliced + s->down.pump.spliced);
}

void session_destroy(struct session *s, enum close_reason reason)
{
	struct session_env *env = s->env;

	report(s, reason);
	free(s->who);
	half_finish(&s->up, &env->tools);
	half_finish(&s->down, &env->tools);
	if (!s->settled)
		leave_crowd(s);
	leave_env(s);
	if (s->cgroup_id)
		quota_give(&env->shared->per_cgroup, s->cgroup_id);
	/* Reset also the side that seems to have reset: the error may have come from our kernel. */
	close_side(s->client_fd, reason != CLOSE_DONE);
	close_side(s->server_fd, reason != CLOSE_DONE);
	free(s);
	tell_end(env);
}

static void set_timeout(struct session *s, struct deadline_queue *queue)
{
	deadline_set(&s->deadline, queue);
	progress_start(&s->progress, s->deadline.touched_ms);
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
	set_timeout(s, &s->env->half_closed);
	watch(s);
	return true;
}

/*
 * The side by has been reset. What it sent before goes to the other side, as far as that takes it.
 * Destroys the session.
 */
static void reset_by(struct session *s, enum session_side by)
{
	half_flush(by == SESSION_CLIENT ? &s->up : &s->down, &s->env->tools);
	session_destroy(s, reset_reason(by));
}

/* Bytes of h have moved. */
static void note_moved(struct half *h)
{
	struct session *s = h->session;

	deadline_touch(&s->deadline);
	other_half(h)->pump.unanswered = 0;
	/* The client waits for an answer, and there was one before (ack.h). */
	if (h == &s->down)
		ack_forget(&s->env->acks, &s->ack);
	else if (s->up.pump.unanswered && s->down.pump.bytes)
		ack_owe(&s->env->acks, &s->ack);
}

/* Moves the data that can be moved in one direction. Returns false if it destroyed the session. */
static bool run(struct half *h)
{
	struct session *s = h->session;
	uint64_t bytes = h->pump.bytes;
	enum half_result r = half_run(h, &s->env->tools);

	if (h->pump.bytes != bytes)
		note_moved(h);
	switch (r) {
	case HALF_WAITS:
		watch(s);
		return true;
	case HALF_EOF:
		return half_end(h);
	case HALF_SOURCE_RESET:
		session_destroy(s, reset_reason(source_of(h)));
		return false;
	case HALF_DESTINATION_RESET:
		reset_by(s, source_of(other_half(h)));
		return false;
	case HALF_NO_MEMORY:
		session_destroy(s, CLOSE_NO_MEMORY);
		return false;
	}
	return true;
}

static void on_ready(struct half *h, bool again)
{
	struct session_env *env = h->session->env;

	note_event(h->session);
	/* Small messages run before bulk. If the half cannot wait for its turn, it runs now. */
	if (again && env->defer && env->defer(env, h))
		return;
	run(h);
}

void session_run(struct half *h)
{
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

/* True if the timeout of s has expired without progress and without a pending event. */
static bool is_over(struct session *s)
{
	progress_check(&s->progress, s->up.pump.bytes + s->down.pump.bytes,
		       sock_queued(s->client_fd) + sock_queued(s->server_fd),
		       s->deadline.touched_ms);
	if (!progress_has_stopped(&s->progress, s->deadline.queue->timeout_ms))
		return false;
	/* One more interval only: a pending event may bring no data that can be moved. */
	if (s->progress.excused || !has_work(s))
		return true;
	s->progress.excused = true;
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
		registration_note_error(&s->env->handle, &s->dst, ETIMEDOUT);
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

/* connect() has succeeded: starts both halves. May destroy the session. */
static void open_session(struct session *s)
{
	bool acks_late = s->up.pump.kept;

	s->state = SESSION_OPEN;
	set_timeout(s, &s->env->idle);
	/* Most clients have sent data by now: read at once rather than wait for an event. */
	if (!run(&s->up))
		return;
	if (acks_late)
		sock_set_quickack(s->server_fd, true);
	if (half_wait_read(&s->down) < 0)
		session_destroy(s, CLOSE_NO_MEMORY);
	else
		watch(s);
}

/*
 * The server cannot be reached, for the reason of errno error. Notes the error for the next
 * clients, logs it, and destroys the session.
 */
static void dial_failed(struct session *s, int error)
{
	char dst[FORMAT_ENDPOINT_LEN];

	/*
	 * The server accepted, possibly sent data, and reset, all before this thread got the event.
	 * (A refused connect() fails with ECONNREFUSED.) Pass its data on before the reset.
	 */
	if (error == ECONNRESET || error == EPIPE) {
		reset_by(s, SESSION_SERVER);
		return;
	}
	format_endpoint(&s->dst, dst);
	if (connect_error_is_local(error) && log_episode_begins(&s->env->shared->dial_failed))
		log_warning("this host does not let us connect, to %s and maybe others: %s", dst,
			    strerror(error));
	else
		log_debug("cannot connect to %s: %s", dst, strerror(error));
	registration_note_error(&s->env->handle, &s->dst, error);
	s->dial_error = error;
	session_destroy(s, CLOSE_DIAL_FAILED);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	int r;

	note_event(s);
	r = connect_result(fd);
	if (r < 0) {
		dial_failed(s, -r);
		return;
	}
	half_connected(&s->up);
	open_session(s);
}

/* Connects to the original destination. May destroy the session. */
static void dial(struct session *s, bool crowded)
{
	bool early = crowded && pump_prefetch(&s->up.pump, &s->env->tools);
	int r;

	if (early)
		sock_set_quickack(s->server_fd, false);
	r = connect_start(s->server_fd, &s->dst);
	if (r == 0) {
		open_session(s);
	} else if (r == -EINPROGRESS) {
		if (early)
			sock_set_quickack(s->server_fd, true);
		deadline_set(&s->deadline, &s->env->connecting);
		if (half_wait_connected(&s->up, on_connected, s) < 0)
			session_destroy(s, CLOSE_NO_MEMORY);
		else
			watch(s);
	} else {
		dial_failed(s, -r);
	}
}

/* Counts the connection for its client's cgroup. Returns false, and destroys s, at the limit. */
static bool count_client(struct session *s, uint64_t cgroup_id)
{
	struct quota *quota = &s->env->shared->per_cgroup;

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
	if (!s->env->pass_mark || !mark ||
	    setsockopt(s->server_fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0)
		return true;
	dial_failed(s, errno);
	return false;
}

void session_set_keepidle(struct session *s)
{
	s->keepidle_s = s->env->keepidle_s;
	if (!s->keeps_own)
		tuning_set_keepidle(s->server_fd, s->keepidle_s);
}

/* Keepalive ends the session of a server whose host has vanished, long before the idle timeout. */
void session_settle(struct session *s)
{
	s->keeps_own = tuning_pass_options_on(s->client_fd, s->server_fd);
	session_set_keepidle(s);
	s->settled = true;
	leave_crowd(s);
}

void session_detach(struct session *s)
{
	half_detach(&s->up);
	half_detach(&s->down);
	leave_env(s);
	s->env = NULL;
	s->handoff = 0;
}

void session_attach(struct session *s, struct session_env *env)
{
	int r, r_down;

	s->env = env;
	/* At the tail: s is settled, and sessions that are not settled are at the head. */
	TAILQ_INSERT_TAIL(&env->sessions, s, entry);
	deadline_set(&s->deadline,
		     s->state == SESSION_HALF_CLOSED ? &env->half_closed : &env->idle);
	r = half_attach(&s->up, env->base);
	r_down = half_attach(&s->down, env->base);
	if (r < 0 || r_down < 0) {
		session_destroy(s, CLOSE_NO_MEMORY);
		return;
	}
	/* The configuration may have changed while s was on its way. */
	if (s->keepidle_s != env->keepidle_s)
		session_set_keepidle(s);
	watch(s);
}

static struct session *session_new(struct session_env *env, int client_fd, int server_fd,
				   const union sockaddr_any *client)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->env = env;
	s->client_fd = s->ack.fd = client_fd;
	s->server_fd = server_fd;
	s->client = *client;
	s->started_ms = monotonic_coarse_ms();
	half_init(&s->up, s, env->base, client_fd, server_fd, on_ready);
	half_init(&s->down, s, env->base, server_fd, client_fd, on_ready);
	s->up.pump.nagle = true;
	s->up.pump.near_src = true;
	TAILQ_INSERT_HEAD(&env->sessions, s, entry);
	if (!env->unsettled)
		env->unsettled = s;
	env->crowd.sessions++;
	s->who = connlog_read_client(client_fd);
	return s;
}

void session_create(struct session_env *env, int client_fd, int server_fd,
		    const union sockaddr_any *client, bool crowded)
{
	struct session *s = session_new(env, client_fd, server_fd, client);
	struct tproxy_conn conn;

	if (!s) {
		sock_close_reset(client_fd);
		close(server_fd);
		count_end(env, CLOSE_NO_MEMORY);
		tell_end(env);
		return;
	}
	if (origdst_get(client_fd, client->sa.sa_family, &s->dst, &conn) != ORIGDST_FOUND) {
		session_destroy(s, CLOSE_NO_DESTINATION);
		return;
	}
	if (count_client(s, conn.cgroup_id) && pass_mark(s, conn.mark))
		dial(s, crowded);
}
