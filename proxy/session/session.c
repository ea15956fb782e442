// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See session.h and state.h. session_create() asks the kernel half for the original destination and
 * route_of() for the route, and connects. Then run_handshake(), if the route has a handshake, and
 * start_relaying(). half_on_ready() handles the events of each phase. run() has a half move its
 * data (half.c) and acts on the result: only this file destroys sessions.
 *
 * A side that is not polled can be reset without an event: such sessions are on the probe list, see
 * env_watch(). The owner of the environment may defer a half that is ready (session_env::defer), as
 * it does with bulk data.
 *
 * A function that may destroy the session returns false if it did, or is the last call of its
 * caller. The sockets of a session are closed in session_destroy() only.
 */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connect.h"
#include "expiry.h"
#include "kernel/origdst.h"
#include "kernel/marks.h"
#include "log.h"
#include "monotonic.h"
#include "report/connlog.h"
#include "sock.h"
#include "tproxy_abi.h"
#include "tuning.h"
#include "upstream/handshake.h"
#include "upstream/route.h"
#include "util.h"

static struct half *other_half(struct half *h)
{
	struct session *s = half_session(h);

	return h->from_server ? &s->c2s : &s->s2c;
}

static enum session_side source_of(const struct half *h)
{
	return h->from_server ? SESSION_SERVER : SESSION_CLIENT;
}

static enum close_reason reset_reason(enum session_side by)
{
	return by == SESSION_CLIENT ? CLOSE_RESET_BY_CLIENT : CLOSE_RESET_BY_SERVER;
}

/* Before RELAYING: returns where the route leads. */
static const union sockaddr_any *upstream_address(const struct session *s)
{
	return s->handshake ? handshake_upstream(s->handshake) : &s->dst;
}

/*
 * Every event callback calls this first. It feeds the accept throttle (admission.h) and the spin
 * heuristic (spin.h).
 */
static void note_event(struct session *s)
{
	if (!s->has_keepalive)
		s->env->admission.served++;
	spin_note_event(&s->env->spin);
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

static void note_end(struct session_env *env)
{
	if (env->on_end)
		env->on_end(env);
}

static void report(const struct session *s, enum close_reason reason)
{
	struct stats *stats = &s->env->stats;
	const struct conn_report report = {
		.client = &s->client,
		.dst = &s->dst,
		.upstream_fd = s->phase <= SESSION_CONNECTING ? -1 : session_upstream_fd(s),
		.started_ms = s->started_ms,
		.ended_ms = monotonic_coarse_ms(),
		.bytes_up = s->c2s.pump.bytes,
		.bytes_down = s->s2c.pump.bytes,
		.reason = reason,
		.error = s->connect_error,
		.client_info = s->client_info,
	};

	connlog_print(&report);
	count_end(s->env, reason);
	histogram_add(stats->times, HISTOGRAM_LIFE, report.ended_ms - report.started_ms);
	stats_add(&stats->spliced, s->c2s.pump.spliced + s->s2c.pump.spliced);
}

void session_destroy(struct session *s, enum close_reason reason)
{
	struct session_env *env = s->env;
	int client_fd = session_client_fd(s), upstream_fd = session_upstream_fd(s);

	report(s, reason);
	free(s->client_info);
	half_finish(&s->c2s, &env->pump_env);
	half_finish(&s->s2c, &env->pump_env);
	handshake_destroy(s->handshake);
	if (!s->has_keepalive)
		env_end_new(s);
	env_remove(s);
	if (s->cgroup_id)
		quota_give(&env->shared->per_cgroup, s->cgroup_id);
	/* Reset also the side that seems to have reset: the error may have come from our kernel. */
	close_side(client_fd, reason != CLOSE_DONE);
	close_side(upstream_fd, reason != CLOSE_DONE);
	free(s);
	note_end(env);
}

/* Counts the bytes that h has moved since it had moved @before. */
static void count_bytes(struct half *h, uint64_t before)
{
	struct stats *stats = &half_session(h)->env->stats;

	stats_add(h->from_server ? &stats->bytes_down : &stats->bytes_up, h->pump.bytes - before);
}

static void set_timeout(struct session *s, struct deadline_queue *queue, uint64_t now_ms)
{
	deadline_set_at(&s->deadline, queue, now_ms);
	progress_start(&s->progress, now_ms);
}

/* h is done. Passes the FIN on, or ends the session. Returns false if it destroyed the session. */
static bool half_end(struct half *h)
{
	struct session *s = half_session(h);

	/* close() sends the last FIN. */
	if (other_half(h)->done) {
		session_destroy(s, CLOSE_DONE);
		return false;
	}
	/* ENOTCONN: the destination has just been reset. The other half will see that. */
	shutdown(h->pump.dst_fd, SHUT_WR);
	s->phase = SESSION_HALF_CLOSED;
	set_timeout(s, &s->env->half_closed, monotonic_coarse_ms());
	env_watch(s);
	return true;
}

/*
 * The side by has been reset. Passes on the data that it sent before, as far as the other side
 * takes them; nothing passes before a handshake is done. Destroys the session.
 */
static void reset_by(struct session *s, enum session_side by)
{
	struct half *from = by == SESSION_CLIENT ? &s->c2s : &s->s2c;
	const uint64_t before = from->pump.bytes;

	if (!s->handshake)
		half_flush(from, &s->env->pump_env);
	count_bytes(from, before);
	session_destroy(s, reset_reason(by));
}

/* Bytes of h have moved: it had moved @before until now. */
static void note_moved(struct half *h, uint64_t before)
{
	struct session *s = half_session(h);

	count_bytes(h, before);
	deadline_touch(&s->deadline);
	if (before == 0 && h == &s->s2c)
		histogram_add(s->env->stats.times, HISTOGRAM_FIRST_BYTE,
			      s->deadline.touched_ms - s->started_ms);
	other_half(h)->pump.unanswered = 0;
	/* The client waits for an answer, and there was one before (ack.h). */
	if (h == &s->s2c)
		ack_forget(&s->env->acks, &s->ack);
	else if (s->c2s.pump.unanswered && s->s2c.pump.bytes)
		ack_owe(&s->env->acks, &s->ack);
}

/* Moves the data that can be moved in one direction. Returns false if it destroyed the session. */
static bool run(struct half *h)
{
	struct session *s = half_session(h);
	uint64_t bytes = h->pump.bytes;
	enum half_result r = half_run(h, &s->env->pump_env);

	if (h->pump.bytes != bytes)
		note_moved(h, bytes);
	switch (r) {
	case HALF_WAITS:
		env_watch(s);
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

/* RELAYING, HALF_CLOSED: a half can move data. */
static void on_data(struct half *h, bool again)
{
	struct session_env *env = half_session(h)->env;

	/* Small messages run before bulk. If the half cannot wait for its turn, it runs now. */
	if (again && env->defer && env->defer(env, h))
		return;
	run(h);
}

void session_run(struct half *h)
{
	run(h);
}

void session_expire(struct session *s, enum close_reason reason)
{
	if (!expiry_is_over(s)) {
		deadline_set(&s->deadline, s->deadline.queue);
		return;
	}
	if (reason == CLOSE_CONNECT_TIMEOUT) {
		s->connect_error = ETIMEDOUT;
		/* An upstream that does not answer says nothing about the destination. */
		if (s->phase == SESSION_CONNECTING)
			marks_note_error(&s->env->marks, s->rule_upstream, upstream_address(s),
					 ETIMEDOUT);
	}
	session_destroy(s, reason);
}

void session_probe(struct session *s)
{
	enum expiry_reset reset = expiry_find_reset(s);

	if (reset != RESET_NONE)
		reset_by(s, reset == RESET_OF_CLIENT ? SESSION_CLIENT : SESSION_SERVER);
}

/* Starts both halves. May destroy the session. */
static void start_relaying(struct session *s, uint64_t now_ms)
{
	bool acks_late = s->c2s.pump.kept;

	s->phase = SESSION_RELAYING;
	set_timeout(s, &s->env->idle, now_ms);
	histogram_add(s->env->stats.times, HISTOGRAM_CONNECT, now_ms - s->started_ms);
	/* Most clients have sent data by now: read at once rather than wait for an event. */
	if (!run(&s->c2s))
		return;
	if (acks_late)
		sock_set_quickack(session_upstream_fd(s), true);
	if (half_wait_read(&s->s2c) < 0)
		session_destroy(s, CLOSE_NO_MEMORY);
	else
		env_watch(s);
}

/* Waits for an event of the upstream, before RELAYING. r: of the function that waits. */
static void wait_upstream(struct session *s, int r)
{
	if (r < 0)
		session_destroy(s, CLOSE_NO_MEMORY);
	else
		env_watch(s);
}

static void end_unconnected(struct session *s, int error)
{
	s->connect_error = error;
	session_destroy(s, CLOSE_CONNECT_FAILED);
}

/*
 * The upstream cannot be reached, for the reason of errno error. Notes the error for the next
 * clients, logs it, and destroys the session.
 */
static void connect_failed(struct session *s, int error)
{
	char upstream[FORMAT_ENDPOINT_LEN];

	/*
	 * The server accepted, possibly sent data, and reset, all before this thread got the event.
	 * (A refused connect() fails with ECONNREFUSED.) Pass its data on before the reset.
	 */
	if ((error == ECONNRESET || error == EPIPE) && !s->handshake) {
		reset_by(s, SESSION_SERVER);
		return;
	}
	format_endpoint(upstream_address(s), upstream);
	if (connect_error_is_local(error) && log_episode_begins(&s->env->shared->connect_failed))
		log_warning("connect() to %s failed locally: %s", upstream, strerror(error));
	else
		log_debug("cannot connect to %s: %s", upstream, strerror(error));
	marks_note_error(&s->env->marks, s->rule_upstream, upstream_address(s), error);
	end_unconnected(s, error);
}

/* The handshake has failed. refused: error is that of the destination, as the upstream says. */
static void handshake_failed(struct session *s, int error, bool refused)
{
	char upstream[FORMAT_ENDPOINT_LEN];

	log_debug("%s handshake with %s: %s", handshake_name(s->handshake),
		  format_endpoint(upstream_address(s), upstream), strerror(error));
	if (refused)
		marks_note_error(&s->env->marks, s->rule_upstream, &s->dst, error);
	end_unconnected(s, error);
}

static void run_handshake(struct session *s)
{
	const bool was_writable = s->c2s.writing; /* by an event */
	int error;

	switch (handshake_run(s->handshake, session_upstream_fd(s), &error)) {
	case HANDSHAKE_WAIT_READ:
		half_stop(&s->c2s);
		wait_upstream(s, half_wait_read(&s->s2c));
		break;
	case HANDSHAKE_WAIT_WRITE:
		half_stop(&s->s2c);
		wait_upstream(s, was_writable ? half_back_off(&s->c2s) : half_wait_write(&s->c2s));
		break;
	case HANDSHAKE_FINISHED:
		half_stop(&s->c2s);
		handshake_destroy(TAKE_PTR(s->handshake));
		s->progress.excused = false;
		start_relaying(s, monotonic_coarse_ms());
		break;
	case HANDSHAKE_REFUSED:
		handshake_failed(s, error, /* refused= */ true);
		break;
	case HANDSHAKE_BROKEN:
		handshake_failed(s, error, /* refused= */ false);
		break;
	}
}

/* connect() has succeeded. May destroy the session. */
static void upstream_connected(struct session *s, uint64_t now_ms)
{
	if (!s->handshake) {
		start_relaying(s, now_ms);
		return;
	}
	s->phase = SESSION_HANDSHAKE;
	/* One timeout, --connect-timeout, is for connect() and handshake together. */
	if (!s->deadline.queue)
		deadline_set_at(&s->deadline, &s->env->connecting, now_ms);
	run_handshake(s);
}

/* CONNECTING: the upstream's socket is writable. */
static void on_connect_result(struct half *h, bool again)
{
	struct session *s = half_session(h);
	int r = connect_result(session_upstream_fd(s));

	if (r < 0) {
		connect_failed(s, -r);
		return;
	}
	half_stop(&s->c2s);
	upstream_connected(s, monotonic_coarse_ms());
}

/* HANDSHAKE: the upstream's socket is readable or writable. */
static void on_handshake(struct half *h, bool again)
{
	run_handshake(half_session(h));
}

void half_on_ready(struct half *h, bool again)
{
	/* In ACCEPTED no half waits. */
	static void (*const handlers[])(struct half * h, bool again) = {
		[SESSION_CONNECTING] = on_connect_result,
		[SESSION_HANDSHAKE] = on_handshake,
		[SESSION_RELAYING] = on_data,
		[SESSION_HALF_CLOSED] = on_data,
	};

	note_event(half_session(h));
	handlers[half_session(h)->phase](h, again);
}

/* Connects to the upstream. May destroy the session. */
static void connect_upstream(struct session *s, bool under_load)
{
	bool early = under_load && !s->handshake && pump_prefetch(&s->c2s.pump, &s->env->pump_env);
	int r;

	s->phase = SESSION_CONNECTING;
	if (early)
		sock_set_quickack(session_upstream_fd(s), false);
	r = connect_start(session_upstream_fd(s), upstream_address(s));
	/* started_ms is now: it was read in this same pass of the event loop. */
	if (r == 0) {
		upstream_connected(s, s->started_ms);
	} else if (r == -EINPROGRESS) {
		if (early)
			sock_set_quickack(session_upstream_fd(s), true);
		deadline_set_at(&s->deadline, &s->env->connecting, s->started_ms);
		wait_upstream(s, half_wait_write(&s->c2s));
	} else {
		connect_failed(s, -r);
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
	    setsockopt(session_upstream_fd(s), SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0)
		return true;
	connect_failed(s, errno);
	return false;
}

void session_set_keepidle(struct session *s)
{
	s->keepidle_s = s->env->keepidle_s;
	if (!s->keeps_own)
		tuning_set_keepidle(session_upstream_fd(s), s->keepidle_s);
}

/* Keepalive ends the session of a server whose host has vanished, long before the idle timeout. */
void session_start_keepalive(struct session *s)
{
	s->keeps_own = tuning_pass_options_on(session_client_fd(s), session_upstream_fd(s));
	session_set_keepidle(s);
	s->has_keepalive = true;
	env_end_new(s);
}

void session_detach(struct session *s)
{
	half_detach(&s->c2s);
	half_detach(&s->s2c);
	env_remove(s);
	s->env = NULL;
	s->handoff = 0;
}

void session_attach(struct session *s, struct session_env *env)
{
	int r, r_s2c;

	env_add_again(env, s);
	deadline_set(&s->deadline,
		     s->phase == SESSION_HALF_CLOSED ? &env->half_closed : &env->idle);
	r = half_attach(&s->c2s, env->base);
	r_s2c = half_attach(&s->s2c, env->base);
	if (r < 0 || r_s2c < 0) {
		session_destroy(s, CLOSE_NO_MEMORY);
		return;
	}
	/* The configuration may have changed while s was on its way. */
	if (s->keepidle_s != env->keepidle_s)
		session_set_keepidle(s);
	env_watch(s);
}

/* Chooses the route. Returns false, and destroys s, without memory for its handshake. */
static bool choose_route(struct session *s, const struct tproxy_conn *conn)
{
	const struct route_query query = { .dst = &s->dst, .conn = conn };
	struct route route;

	route_of(&query, &route);
	if (!route.handshake)
		return true;
	s->handshake = handshake_create(route.handshake, &route.proxy, &s->dst);
	if (s->handshake)
		return true;
	session_destroy(s, CLOSE_NO_MEMORY);
	return false;
}

static struct session *session_new(struct session_env *env, int client_fd, int upstream_fd,
				   const union sockaddr_any *client)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->ack.fd = client_fd;
	s->client = *client;
	s->started_ms = monotonic_coarse_ms();
	half_init(&s->c2s, env->base, client_fd, upstream_fd);
	half_init(&s->s2c, env->base, upstream_fd, client_fd);
	s->s2c.from_server = true;
	s->c2s.pump.nagle = true;
	s->c2s.pump.near_src = true;
	env_add(env, s);
	s->client_info = connlog_read_client(client_fd);
	return s;
}

void session_create(struct session_env *env, int client_fd, int upstream_fd,
		    const union sockaddr_any *client, bool under_load)
{
	struct session *s = session_new(env, client_fd, upstream_fd, client);
	struct tproxy_conn conn;

	if (!s) {
		sock_close_reset(client_fd);
		close(upstream_fd);
		count_end(env, CLOSE_NO_MEMORY);
		note_end(env);
		return;
	}
	if (origdst_get(client_fd, client->sa.sa_family, &s->dst, &conn) != ORIGDST_FOUND) {
		session_destroy(s, CLOSE_NO_DESTINATION);
		return;
	}
	s->rule_upstream = conn.upstream;
	/* On failure a capture lacks these packets, which is no reason to end the connection. */
	if (conn.flags & TPROXY_CONN_CAPTURED)
		marks_set_upstream_of(&env->marks, upstream_fd, &conn);
	if (count_client(s, conn.cgroup_id) && choose_route(s, &conn) && pass_mark(s, conn.mark))
		connect_upstream(s, under_load);
}
