// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See session.h and state.h: the relaying of a session, and its end. opening.c brings a session to
 * RELAYING, and calls session_start_relaying(). session_on_ready() handles the events from there
 * on. run() has a half move its data (half.c) and acts on the result.
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
#include <sys/socket.h>
#include <unistd.h>

#include "expiry.h"
#include "join.h"
#include "joining.h"
#include "kernel/marks.h"
#include "log.h"
#include "monotonic.h"
#include "naming.h"
#include "report/connlog.h"
#include "tuning.h"
#include "upstream/dial.h"
#include "upstream/sock.h"
#include "upstream/tls.h"
#include "upstream/upstream.h"

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

static void close_side(int fd, bool reset)
{
	if (fd < 0)
		return;
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

void session_not_created(struct session_env *env)
{
	count_end(env, CLOSE_NO_MEMORY);
	note_end(env);
}

bool session_take_detour(struct session *s)
{
	if (!s->detour)
		s->detour = calloc(1, sizeof(*s->detour));
	return s->detour;
}

/* Ends the session's part in the figures of its upstream. */
static void leave_upstream(struct session *s)
{
	struct upstream_figures *figures;

	if (s->opened && s->detour->upstream) {
		figures = &s->detour->upstream->figures;
		atomic_fetch_sub_explicit(&figures->connections, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&figures->bytes_up, s->c2s.pump.bytes,
					  memory_order_relaxed);
		atomic_fetch_add_explicit(&figures->bytes_down, s->s2c.pump.bytes,
					  memory_order_relaxed);
	}
}

/* Frees what the detour has but the bridge, which is the server's socket. */
static void end_detour(struct session *s)
{
	struct detour *detour = s->detour;

	if (!detour)
		return;
	join_free(detour->join);
	naming_free(detour->naming);
	free(detour->known);
	dial_free(detour->dial);
	leave_upstream(s);
	upstreams_unref(detour->upstreams);
}

/* The TCP socket of the upstream: behind the bridge, if there is one. */
static int upstream_tcp_fd(const struct session *s)
{
	const struct tls_bridge *bridge = detour_of(s)->bridge;

	return bridge ? tls_bridge_fd(bridge) : session_upstream_fd(s);
}

static void report(const struct session *s, enum close_reason reason)
{
	const struct detour *detour = detour_of(s);
	struct stats *stats = &s->env->stats;
	const struct conn_report report = {
		.client = &s->client,
		.dst = &s->dst,
		.upstream_fd = s->phase < SESSION_RELAYING ? -1 : upstream_tcp_fd(s),
		.started_ms = s->started_ms,
		.ended_ms = monotonic_coarse_ms(),
		.bytes_up = s->c2s.pump.bytes,
		.bytes_down = s->s2c.pump.bytes,
		.reason = reason,
		.error = s->connect_error,
		.client_info = s->client_info,
		.upstream = detour->upstream ? detour->upstream->conf.name : NULL,
		.why = detour->why,
		.name = detour->known && *detour->known->text ? detour->known->text : NULL,
		.protocol = detour->known ? detour->known->protocol : NULL,
		.ech = detour->known && detour->known->ech,
	};

	connlog_print(&report);
	count_end(s->env, reason);
	histogram_add(stats->times, HISTOGRAM_LIFE, report.ended_ms - report.started_ms);
}

static void end(struct session *s, bool reset)
{
	struct session_env *env = s->env;
	int client_fd = session_client_fd(s), upstream_fd = session_upstream_fd(s);

	free(s->client_info);
	end_detour(s);
	half_finish(&s->c2s, &env->pump_env);
	half_finish(&s->s2c, &env->pump_env);
	if (!s->has_keepalive)
		env_end_new(s);
	env_remove(s);
	if (s->cgroup_id)
		quota_give(&env->shared->per_cgroup, s->cgroup_id);
	tls_bridge_close(detour_of(s)->bridge, reset);
	/* Reset also the side that seems to have reset: the error may have come from our kernel. */
	close_side(client_fd, reset);
	close_side(upstream_fd, reset);
	free(s->detour);
	free(s);
	note_end(env);
}

void session_destroy(struct session *s, enum close_reason reason)
{
	if (detour_of(s)->join)
		joining_settle(s, reason);
	report(s, reason);
	if (reason == CLOSE_DRAIN_TIMEOUT)
		dial_abandon(detour_of(s)->dial);
	end(s, reason != CLOSE_DONE);
}

void session_drop(struct session *s)
{
	end(s, /* reset= */ true);
}

/* Counts the bytes that h has moved since it had moved @before. */
static void count_bytes(struct half *h, uint64_t before)
{
	struct session_env *env = half_session(h)->env;
	struct stats *stats = &env->stats;

	stats_add(h->from_server ? &stats->bytes_down : &stats->bytes_up, h->pump.bytes - before);
	if (env->pump_env.spliced)
		stats_add(&stats->spliced, env->pump_env.spliced);
	env->pump_env.spliced = 0;
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

void session_reset_by(struct session *s, enum session_side by)
{
	struct half *from = by == SESSION_CLIENT ? &s->c2s : &s->s2c;
	const uint64_t before = from->pump.bytes;

	if (detour_of(s)->join) {
		joining_reset_by_server(s);
		return;
	}
	if (!detour_of(s)->dial && s->phase != SESSION_SNIFFING)
		half_flush(from, &s->env->pump_env);
	count_bytes(from, before);
	session_destroy(s, reset_reason(by));
}

/* Callback of the bridge: the connection behind it is lost. */
static void on_bridge_failed(void *data, int error, const char *why)
{
	struct session *s = data;

	s->detour->why = why;
	log_limited(&s->detour->upstream->failed_log, LOG_LEVEL_WARNING,
		    "connection through upstream '%s' is lost: %s", s->detour->upstream->conf.name,
		    why);
	session_reset_by(s, SESSION_SERVER);
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
		session_reset_by(s, source_of(other_half(h)));
		return false;
	case HALF_NO_MEMORY:
		session_destroy(s, CLOSE_NO_MEMORY);
		return false;
	}
	return true;
}

void session_on_ready(struct half *h, bool again)
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

void session_note_error(struct session *s, int error)
{
	if (!s->name_decides && !joining_tells(s, error))
		marks_note_error(&s->env->marks, detour_of(s)->rule_upstream, &s->dst, error);
}

void session_expire(struct session *s, enum close_reason reason)
{
	if (!expiry_is_over(s)) {
		deadline_set(&s->deadline, s->deadline.queue);
		return;
	}
	if (detour_of(s)->dial) {
		if (dial_expire(detour_of(s)->dial)) {
			s->progress.excused = false;
			deadline_set(&s->deadline, s->deadline.queue);
		}
		return;
	}
	if (reason == CLOSE_CONNECT_TIMEOUT) {
		s->connect_error = ETIMEDOUT;
		session_note_error(s, ETIMEDOUT);
	}
	session_destroy(s, reason);
}

void session_probe(struct session *s)
{
	enum expiry_reset reset;

	if (detour_of(s)->join) {
		if (join_client_is_gone(detour_of(s)->join))
			session_destroy(s, CLOSE_CANCELLED);
		return;
	}
	reset = expiry_find_reset(s);
	if (reset != RESET_NONE)
		session_reset_by(s, reset == RESET_OF_CLIENT ? SESSION_CLIENT : SESSION_SERVER);
}

void session_take_bridge(struct session *s, struct tls_bridge *bridge)
{
	s->detour->bridge = bridge;
	if (bridge)
		tls_bridge_set_owner(bridge, on_bridge_failed, s);
}

void session_start_relaying(struct session *s, uint64_t now_ms, bool has_sent)
{
	s->phase = SESSION_RELAYING;
	set_timeout(s, &s->env->idle, now_ms);
	histogram_add(s->env->stats.times, HISTOGRAM_CONNECT, now_ms - s->started_ms);
	/* Read at once rather than wait for an event. */
	if (has_sent && !run(&s->c2s))
		return;
	if (s->acks_late)
		sock_set_quickack(session_upstream_fd(s), true);
	s->acks_late = false;
	if ((!has_sent && half_wait_read(&s->c2s) < 0) || half_wait_read(&s->s2c) < 0)
		session_destroy(s, CLOSE_NO_MEMORY);
	else
		env_watch(s);
}

void session_set_keepidle(struct session *s)
{
	s->keepidle_s = (uint16_t)s->env->keepidle_s;
	if (!s->keeps_own)
		tuning_set_keepidle(upstream_tcp_fd(s), s->keepidle_s);
}

/* Keepalive ends the session of a server whose host has vanished, long before the idle timeout. */
void session_start_keepalive(struct session *s)
{
	const struct join *join = detour_of(s)->join;

	s->keeps_own = join ? tuning_pass_options_of(&join->conn, upstream_tcp_fd(s))
			    : tuning_pass_options_on(session_client_fd(s), upstream_tcp_fd(s));
	session_set_keepidle(s);
	if (s->has_keepalive)
		return;
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
