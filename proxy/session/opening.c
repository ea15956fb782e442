// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See opening.h and state.h. session_create() asks the kernel half for the original destination and
 * route_of() for the route. A direct session connects here, in CONNECTING: no allocation, and no
 * system call but connect() and, if that takes time, an event. A session with an upstream gives its
 * prepared socket to a dial (dial.h), in DIALLING, and gets a connected one back in on_dialled().
 * Both then call opened(), which calls session_start_relaying().
 *
 * A session whose destination is to be named (naming.h) waits in SNIFFING for that, because the
 * route may depend on the name. If it does not, the session connects meanwhile, and opened() waits
 * for the name: the client's bytes are looked at before they are read.
 *
 * --connect-timeout bounds all of it except the wait for the name, which has limits of its own
 * (naming.h). A session that is being opened is on the probe list: if the client resets, the
 * session ends, and its dial with it.
 *
 * Clients that reset in the backlog are not dialled for, if there are many: in a flood of them the
 * backlog would grow faster than it is served, and others would wait there.
 *
 * A session whose client's connect() is pending has no client socket until the join that
 * opened() begins is done (joining.h).
 */
#include "opening.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "join.h"
#include "joining.h"
#include "kernel/marks.h"
#include "kernel/origdst.h"
#include "log.h"
#include "monotonic.h"
#include "naming.h"
#include "report/connlog.h"
#include "session.h"
#include "tproxy_abi.h"
#include "tuning.h"
#include "upstream/connect.h"
#include "upstream/dial.h"
#include "upstream/route.h"
#include "upstream/sock.h"
#include "util.h"

/* What a session is opened with. */
struct opening {
	const struct tproxy_conn *conn;
	struct upstreams *set; /* NULL: all sessions are direct */
	struct upstream *by_name;
	uint64_t now_ms;
	bool under_load;
};

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

static void end_unconnected(struct session *s, int error, enum close_reason reason)
{
	s->connect_error = error;
	session_destroy(s, reason);
}

/*
 * The destination cannot be reached, for the reason of errno error. Notes the error for the next
 * clients, logs it, and destroys the session.
 */
static void connect_failed(struct session *s, int error)
{
	char dst[FORMAT_ENDPOINT_LEN];

	/*
	 * The server accepted, possibly sent data, and reset, all before this thread got the event.
	 * (A refused connect() fails with ECONNREFUSED.) Pass its data on before the reset.
	 */
	if (error == ECONNRESET || error == EPIPE) {
		session_reset_by(s, SESSION_SERVER);
		return;
	}
	format_endpoint(&s->dst, dst);
	if (connect_error_is_local(error) && log_episode_begins(&s->env->shared->connect_failed))
		log_warning("connect() to %s failed locally: %s", dst, strerror(error));
	else
		log_debug("cannot connect to %s: %s", dst, strerror(error));
	/* The next client may wait longer than this one wanted to. */
	if (error != ETIMEDOUT || !tuning_limits_connect(session_upstream_fd(s)))
		session_note_error(s, error);
	end_unconnected(s, error, CLOSE_CONNECT_FAILED);
}

/* The server is connected. May destroy the session. */
static void opened(struct session *s, uint64_t now_ms)
{
	s->opened = true;
	if (detour_of(s)->join)
		joining_start(s);
	else if (detour_of(s)->naming)
		deadline_clear(&s->deadline);
	else
		session_start_relaying(s, now_ms, /* has_sent= */ true);
}

/* CONNECTING: the server's socket is writable. */
static void on_connect_result(struct half *h)
{
	struct session *s = half_session(h);
	int r = connect_result(session_upstream_fd(s));

	if (r < 0) {
		connect_failed(s, -r);
		return;
	}
	half_stop(&s->c2s);
	opened(s, monotonic_coarse_ms());
}

void half_on_ready(struct half *h, bool again)
{
	struct session *s = half_session(h);

	note_event(s);
	/* While the session dials, no half waits. */
	if (s->phase == SESSION_CONNECTING)
		on_connect_result(h);
	else
		session_on_ready(h, again);
}

/* True if the client has reset, and sent nothing that is not read. The kernel says so only once. */
static bool has_given_up(const struct session *s)
{
	char byte;

	return recv(session_client_fd(s), &byte, sizeof(byte), MSG_PEEK) < 0 && errno == ECONNRESET;
}

/* Connects to the destination. May destroy the session. */
static void connect_directly(struct session *s, const struct opening *o)
{
	/* The bytes of a session that waits for the name must stay in the socket. */
	bool early = o->under_load && !detour_of(s)->naming && !detour_of(s)->join &&
		     pump_prefetch(&s->c2s.pump, &s->env->pump_env);
	int r;

	/* As has_given_up(). */
	if (!early && s->c2s.pump.prefetch_error == PUMP_READ_ERROR) {
		session_destroy(s, CLOSE_RESET_BY_CLIENT);
		return;
	}
	s->phase = SESSION_CONNECTING;
	if (early)
		sock_set_quickack(session_upstream_fd(s), false);
	r = connect_start(session_upstream_fd(s), &s->dst);
	if (r == 0) {
		s->acks_late = early;
		opened(s, o->now_ms);
	} else if (r == -EINPROGRESS) {
		if (early)
			sock_set_quickack(session_upstream_fd(s), true);
		deadline_set_at(&s->deadline, &s->env->connecting, o->now_ms);
		if (half_wait_write(&s->c2s) < 0)
			session_destroy(s, CLOSE_NO_MEMORY);
		else
			env_watch(s);
	} else {
		connect_failed(s, -r);
	}
}

static void dial_failed(struct session *s, const struct dial_result *result)
{
	s->detour->why = result->why;
	if (result->refused && !s->name_decides && !joining_tells(s, result->error))
		marks_note_refused(&s->env->marks, detour_of(s)->rule_upstream, &s->dst,
				   result->error);
	end_unconnected(s, result->error,
			result->error == ENOMEM ? CLOSE_NO_MEMORY
			: result->expired	? CLOSE_CONNECT_TIMEOUT
						: CLOSE_CONNECT_FAILED);
}

/*
 * Takes the server's socket over from the dial, with what the dial has left there. If bytes are
 * relayed next, the server's half waits for the socket before the dial's event is deleted, so that
 * epoll keeps the socket, and TCP_QUICKACK stays off until the first bytes carry the ACK.
 */
static void take_socket(struct session *s, const struct dial_result *result)
{
	const bool relays = !s->detour->join && !s->detour->naming;

	/* Without memory it fails again in session_start_relaying(), which ends the session. */
	if (result->event && relays)
		half_wait_read(&s->s2c);
	if (result->event)
		event_del(result->event);
	if (result->acks_late && !relays)
		sock_set_quickack(result->fd, true);
	s->acks_late = result->acks_late && relays;
}

/* Callback of the dial, which has ended: RELAYING, or the session's end. */
static void on_dialled(void *data, const struct dial_result *result)
{
	struct session *s = data;
	struct upstream_figures *figures;

	s->detour->upstream = result->upstream;
	if (result->fd < 0) {
		dial_failed(s, result);
		return;
	}
	session_take_bridge(s, result->bridge);
	s->c2s.pump.dst_fd = s->s2c.pump.src_fd = result->fd;
	s->c2s.pump.nagle = result->nagle;
	s->c2s.pump.no_urgent = !result->is_tcp;
	s->progress.excused = false;
	take_socket(s, result);
	/* The time came while the dial had the socket. */
	if (s->has_keepalive)
		session_start_keepalive(s);
	figures = &result->upstream->figures;
	atomic_fetch_add_explicit(&figures->connections, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&figures->total, 1, memory_order_relaxed);
	opened(s, monotonic_coarse_ms());
}

/* Callback of the dial: an event of one of its attempts. */
static void on_dial_event(void *data)
{
	note_event(data);
}

/* Starts a dial through an upstream. May destroy the session. */
static void dial(struct session *s, struct upstream *upstream, const struct opening *o)
{
	struct session_env *env = s->env;
	const struct known_name *known = detour_of(s)->known;
	const struct dial_request request = {
		.base = env->base,
		.tls = env->tls,
		.set = o->set,
		.upstream = upstream,
		.dst = &s->dst,
		.client = &s->client,
		.name = known && !known->ech && *known->text ? known->text : NULL,
		.conn = o->conn,
		.client_fd = session_client_fd(s),
		.fd = session_upstream_fd(s),
		.family = s->client.sa.sa_family,
		.marks = &env->marks,
		.exempt = env->exempt,
		.so_mark = env->pass_mark ? o->conn->mark : 0,
		.on_event = on_dial_event,
		.done = on_dialled,
		.data = s,
	};

	if (o->under_load && has_given_up(s)) {
		session_destroy(s, CLOSE_RESET_BY_CLIENT);
		return;
	}
	if (!session_take_detour(s)) {
		session_destroy(s, CLOSE_NO_MEMORY);
		return;
	}
	s->phase = SESSION_DIALLING;
	s->detour->upstreams = upstreams_ref(o->set);
	s->c2s.pump.dst_fd = s->s2c.pump.src_fd = -1;
	deadline_set_at(&s->deadline, &env->connecting, o->now_ms);
	env_watch(s);
	dial_start(&request, &s->detour->dial);
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

/* The rule names an upstream that is not configured: no other route is what the rule says. */
static void refuse_unknown(struct session *s, uint32_t id)
{
	char dst[FORMAT_ENDPOINT_LEN];

	log_limited(&s->env->shared->unknown_upstream, LOG_LEVEL_WARNING,
		    "connection to %s refused: its rule names the upstream with id %08x, which the "
		    "configuration does not have",
		    format_endpoint(&s->dst, dst), id);
	session_note_error(s, EHOSTUNREACH);
	end_unconnected(s, EHOSTUNREACH, CLOSE_UNKNOWN_UPSTREAM);
}

/* Chooses the route and takes it. May destroy the session. */
static void take_route(struct session *s, const struct opening *o)
{
	const struct route_query query = {
		.set = o->set,
		.rule = detour_of(s)->rule_upstream,
		.by_name = o->by_name,
	};
	struct route route;

	route_of(&query, &route);
	switch (route.kind) {
	case ROUTE_DIRECT:
		if (pass_mark(s, o->conn->mark))
			connect_directly(s, o);
		break;
	case ROUTE_UPSTREAM:
		dial(s, route.upstream, o);
		break;
	case ROUTE_UNKNOWN:
		refuse_unknown(s, query.rule);
		break;
	}
}

/* A line of [names] refuses the connection. Others to this address may have another name. */
static void refuse_name(struct session *s, const struct name_decision *decision)
{
	const struct known_name *known = detour_of(s)->known;
	char dst[FORMAT_ENDPOINT_LEN];

	log_debug("connection to %s refused: \"%s\", line %u of the configuration",
		  format_endpoint(&s->dst, dst), known ? known->text : "", decision->line);
	end_unconnected(s, decision->error, CLOSE_REFUSED_BY_NAME);
}

/* The naming is over, and the route depends on it. May destroy the session. */
static void take_named_route(struct session *s)
{
	struct naming *naming = TAKE_PTR(s->detour->naming);
	const struct opening opening = {
		.conn = &naming->conn,
		.set = naming->set,
		.by_name = naming->decision.upstream,
		.now_ms = monotonic_coarse_ms(),
	};

	if (naming->decision.verdict == NAME_VERDICT_REFUSE)
		refuse_name(s, &naming->decision);
	else
		take_route(s, &opening);
	naming_free(naming);
}

/* Callback of the naming, which is over. */
static void on_named(void *data)
{
	struct session *s = data;

	note_event(s);
	if (s->detour->naming->reset) {
		session_reset_by(s, SESSION_CLIENT);
		return;
	}
	s->detour->known = naming_result(s->detour->naming);
	if (s->phase == SESSION_SNIFFING) {
		take_named_route(s);
		return;
	}
	naming_free(TAKE_PTR(s->detour->naming));
	if (s->opened)
		session_start_relaying(s, monotonic_coarse_ms(), /* has_sent= */ true);
}

/* Returns false if memory is short. */
static bool begin_naming(struct session *s, const struct tproxy_conn *conn)
{
	if (!session_take_detour(s))
		return false;
	s->detour->naming = naming_begin(s->env, session_client_fd(s), &s->dst, conn, on_named, s);
	return s->detour->naming;
}

void opening_find_late_name(struct session *s, const struct tproxy_conn *conn)
{
	if (!begin_naming(s, conn))
		session_destroy(s, CLOSE_NO_MEMORY);
	else if (s->detour->naming->over)
		on_named(s);
	else
		env_watch(s);
}

/*
 * The client sends nothing while its connect() is pending. If the name decides, the client has to
 * be accepted first; otherwise the name is found when the client is joined.
 */
static void name_pending(struct session *s, const struct opening *o)
{
	if (s->name_decides) {
		joining_accept_instead(s, HONEST_ACCEPTED_NAME);
		session_drop(s);
		return;
	}
	s->detour->join->wants_name = true;
	take_route(s, o);
}

/* Finds the name of the destination, and takes the route. May destroy the session. */
static void find_name(struct session *s, const struct opening *o)
{
	const struct route_query query = { .set = o->set, .rule = detour_of(s)->rule_upstream };
	struct route route;

	route_of(&query, &route);
	s->name_decides = name_policy_needs_name(o->set, route.upstream);
	if (detour_of(s)->join) {
		name_pending(s, o);
		return;
	}
	if (!begin_naming(s, o->conn)) {
		session_destroy(s, CLOSE_NO_MEMORY);
	} else if (!s->name_decides && !s->detour->naming->over) {
		take_route(s, o);
	} else {
		s->phase = SESSION_SNIFFING;
		if (s->detour->naming->over)
			on_named(s);
		else
			env_watch(s);
	}
}

struct session *opening_new_session(struct session_env *env, int client_fd, int upstream_fd,
				    const union sockaddr_any *client)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->client = *client;
	s->started_ms = monotonic_coarse_ms();
	half_init(&s->c2s, env->base, client_fd, upstream_fd);
	half_init(&s->s2c, env->base, upstream_fd, client_fd);
	s->s2c.from_server = true;
	s->c2s.pump.nagle = true;
	s->c2s.pump.near_src = true;
	env_add(env, s);
	return s;
}

void opening_choose(struct session *s, const struct tproxy_conn *conn, uint64_t now_ms,
		    bool under_load)
{
	const struct opening opening = {
		.conn = conn,
		.set = s->env->upstreams,
		.now_ms = now_ms,
		.under_load = under_load,
	};

	if (conn->upstream) {
		if (!session_take_detour(s)) {
			session_destroy(s, CLOSE_NO_MEMORY);
			return;
		}
		s->detour->rule_upstream = conn->upstream;
	}
	/* On failure a capture lacks these packets, which is no reason to end the connection. */
	if (conn->flags & TPROXY_CONN_CAPTURED)
		marks_set_upstream_of(&s->env->marks, session_upstream_fd(s), conn);
	if (!count_client(s, conn->cgroup_id))
		return;
	if (naming_is_wanted(s->env, &s->dst))
		find_name(s, &opening);
	else
		take_route(s, &opening);
}

void session_create(struct session_env *env, int client_fd, int upstream_fd,
		    const union sockaddr_any *client, bool under_load)
{
	struct session *s = opening_new_session(env, client_fd, upstream_fd, client);
	struct tproxy_conn conn;

	if (!s) {
		sock_close_reset(client_fd);
		close(upstream_fd);
		session_not_created(env);
		return;
	}
	s->client_info = connlog_read_client(client_fd);
	if (origdst_get(client_fd, client->sa.sa_family, &s->dst, &conn) != ORIGDST_FOUND) {
		session_destroy(s, CLOSE_NO_DESTINATION);
		return;
	}
	/* Read in this same pass of the event loop. */
	opening_choose(s, &conn, s->started_ms, under_load);
}
