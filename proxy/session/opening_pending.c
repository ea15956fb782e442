// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See opening_pending.h. The session takes the same route as one whose client is accepted
 * (opening.c), without a client socket. When its destination is reached, opened() begins the join,
 * and on_joined() ends it.
 */
#include "opening_pending.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "join.h"
#include "joining.h"
#include "kernel/endpoint.h"
#include "monotonic.h"
#include "opening.h"
#include "report/connlog.h"
#include "session.h"

/* True if the client has options of its own for the server's socket (tuning.h). */
static bool has_options(const struct tproxy_conn *conn)
{
	return conn->user_timeout_ms || conn->keep_alive;
}

/* The client is joined. May destroy the session. */
static void joined(struct session *s)
{
	struct join *join;

	/* The kernel half keeps no record of a joined socket that could be asked for later. */
	if (s->has_keepalive || has_options(&detour_of(s)->join->conn))
		session_start_keepalive(s);
	join = joining_take_client(s);
	if (join->server_reset)
		session_reset_by(s, SESSION_SERVER);
	else if (join->wants_name)
		opening_find_late_name(s, &join->conn);
	else
		/* Its connect() has succeeded this moment. */
		session_start_relaying(s, monotonic_coarse_ms(), /* has_sent= */ false);
	join_free(join);
}

/* Callback of the join, which has ended. */
static void on_joined(void *data, enum join_result result)
{
	struct session *s = data;

	switch (result) {
	case JOIN_DONE:
		joined(s);
		break;
	case JOIN_GONE:
		session_destroy(s, CLOSE_CANCELLED);
		break;
	case JOIN_FAILED:
		joining_accept_instead(s, HONEST_ACCEPTED_JOIN);
		session_drop(s);
		break;
	}
}

/* The connection began with the client's connect(), some time ago. */
static uint64_t began_ms(const struct tproxy_conn *conn, uint64_t now_ms)
{
	uint64_t ago_ms = (monotonic_kernel_ns() - conn->started_ns) / 1000000;

	return conn->started_ns && ago_ms < now_ms ? now_ms - ago_ms : now_ms;
}

/* As origdst_get(): no destination, or the relay itself, must not be dialled. */
static bool has_destination(const struct tproxy_conn *conn)
{
	return conn->dst.port && endpoint_is_ipv4(&conn->dst) == endpoint_is_ipv4(&conn->relay) &&
	       memcmp(&conn->dst, &conn->relay, sizeof(conn->dst)) != 0;
}

/* There is no join for the session to answer. */
static void refuse_without_join(struct session_env *env, const struct pending *pending)
{
	pending_answer(env->pending, pending, TPROXY_ANSWER_FAILED);
	stats_add(&env->stats.honest[HONEST_REFUSED], 1);
	stats_add(&env->stats.accepted, 1);
}

/* Returns false if memory is short. */
static bool take_join(struct session *s, const struct pending *pending,
		      const struct tproxy_conn *conn)
{
	struct session_env *env = s->env;
	const struct join_request request = {
		.base = env->base,
		.maps = env->pending,
		.marks = &env->marks,
		.exempt = env->exempt,
		.pending = pending,
		.conn = conn,
		.done = on_joined,
		.data = s,
	};

	if (!session_take_detour(s))
		return false;
	s->detour->join = join_new(&env->joins, &request);
	return s->detour->join;
}

void session_create_pending(struct session_env *env, const struct pending *pending,
			    const struct tproxy_conn *conn, int upstream_fd)
{
	const union sockaddr_any client = endpoint_address(&conn->src);
	struct session *s = opening_new_session(env, /* client_fd= */ -1, upstream_fd, &client);
	uint64_t now_ms;

	stats_add(&env->stats.honest[HONEST_BEGUN], 1);
	if (!s) {
		refuse_without_join(env, pending);
		close(upstream_fd);
		session_not_created(env);
		return;
	}
	now_ms = s->started_ms;
	s->started_ms = began_ms(conn, now_ms);
	s->client_info = connlog_copy_client(conn);
	if (!take_join(s, pending, conn)) {
		refuse_without_join(env, pending);
		session_destroy(s, CLOSE_NO_MEMORY);
	} else if (!has_destination(conn)) {
		session_destroy(s, CLOSE_NO_DESTINATION);
	} else {
		s->dst = endpoint_address(&conn->dst);
		opening_choose(s, conn, now_ms, /* under_load= */ false);
	}
}

void session_pending_gone(struct session_env *env, const struct pending *pending)
{
	struct join *join = join_find(&env->joins, pending);

	if (join)
		session_destroy(join->data, CLOSE_CANCELLED);
}

bool session_pending_known(const struct session_env *env, const struct pending *pending)
{
	return join_find(&env->joins, pending) != NULL;
}
