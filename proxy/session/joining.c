// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See joining.h. A pending connect() has one of five ends: its client is joined, gets ECONNREFUSED
 * (FAILED), gets ETIMEDOUT (TIMED_OUT), gives up, or is accepted instead. Each is counted once
 * (stats.h), in joining_take_client(), joining_settle() or joining_accept_instead().
 */
#include "joining.h"

#include <errno.h>

#include "env.h"
#include "join.h"
#include "log.h"
#include "state.h"
#include "util.h"

static void count(struct session *s, enum honest_count what)
{
	stats_add(&s->env->stats.honest[what], 1);
}

bool joining_tells(const struct session *s, int error)
{
	return detour_of(s)->join && (error == ECONNREFUSED || error == ETIMEDOUT);
}

void joining_settle(struct session *s, enum close_reason reason)
{
	stats_add(&s->env->stats.accepted, 1);
	if (reason == CLOSE_CANCELLED) {
		count(s, HONEST_CANCELLED);
	} else if (reason == CLOSE_CONNECT_TIMEOUT || s->connect_error == ETIMEDOUT) {
		count(s, HONEST_TIMED_OUT);
		join_answer(detour_of(s)->join, TPROXY_ANSWER_TIMED_OUT);
	} else {
		count(s, HONEST_REFUSED);
		join_answer(detour_of(s)->join, TPROXY_ANSWER_FAILED);
	}
}

void joining_accept_instead(struct session *s, enum honest_count why)
{
	char dst[FORMAT_ENDPOINT_LEN];

	log_debug("the connection to %s is accepted before it is dialled: %s",
		  format_endpoint(&s->dst, dst), honest_count_name(why));
	count(s, why);
	join_answer(detour_of(s)->join, TPROXY_ANSWER_ACCEPT);
}

struct join *joining_take_client(struct session *s)
{
	s->c2s.pump.src_fd = s->s2c.pump.dst_fd = join_take_fd(detour_of(s)->join);
	join_answer(detour_of(s)->join, TPROXY_ANSWER_TAKEN);
	stats_add(&s->env->stats.accepted, 1);
	count(s, HONEST_JOINED);
	return TAKE_PTR(s->detour->join);
}

void joining_start(struct session *s)
{
	/* The join has a limit of its own. */
	deadline_clear(&s->deadline);
	half_stop(&s->c2s);
	join_begin(detour_of(s)->join);
}

void joining_reset_by_server(struct session *s)
{
	struct join *join = s->detour->join;

	join->server_reset = true;
	if (!join->begun)
		joining_start(s);
}
