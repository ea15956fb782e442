// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See env.h: which lists of its environment a session is on. */
#include "env.h"

#include "state.h"

/* How often an inactive session is checked for progress within its timeout, see expiry.c. */
#define TIMEOUT_PARTS 8

/* Callback of spin.h. */
static void send_acks(void *arg, bool all)
{
	struct session_env *env = arg;

	ack_send(&env->acks, all);
}

static int client_fd_of(const struct ack *ack)
{
	const char *s = (const char *)ack - offsetof(struct session, ack);

	return session_client_fd((const struct session *)s);
}

void env_init(struct session_env *env)
{
	TAILQ_INIT(&env->sessions);
	TAILQ_INIT(&env->unpolled);
	ack_queue_init(&env->acks, client_fd_of);
	env->spin.deferred = &env->acks.n;
	env->spin.do_deferred = send_acks;
	env->spin.deferred_arg = env;
	deadline_queue_init(&env->connecting);
	deadline_queue_init(&env->idle);
	deadline_queue_init(&env->half_closed);
	env->idle.parts = env->half_closed.parts = TIMEOUT_PARTS;
	half_queue_init(&env->bulk);
	join_table_init(&env->joins);
}

void env_add(struct session_env *env, struct session *s)
{
	s->env = env;
	stats_add(&env->stats.sessions, 1);
	TAILQ_INSERT_HEAD(&env->sessions, s, entry);
	if (!env->oldest_new)
		env->oldest_new = s;
	env->admission.sessions++;
}

void env_add_again(struct session_env *env, struct session *s)
{
	s->env = env;
	stats_add(&env->stats.sessions, 1);
	/* At the tail: sessions without keepalive are at the head. */
	TAILQ_INSERT_TAIL(&env->sessions, s, entry);
}

void env_remove(struct session *s)
{
	struct session_env *env = s->env;

	half_queue_remove(&env->bulk, &s->c2s);
	half_queue_remove(&env->bulk, &s->s2c);
	ack_forget(&env->acks, &s->ack);
	deadline_clear(&s->deadline);
	if (s->unpolled) {
		TAILQ_REMOVE(&env->unpolled, s, unpolled_entry);
		env->n_unpolled--;
		s->unpolled = false;
	}
	TAILQ_REMOVE(&env->sessions, s, entry);
	stats_add(&env->stats.sessions, (uint64_t)-1);
}

void env_end_new(struct session *s)
{
	struct session_env *env = s->env;

	/* Those whose connect() was pending may have got keepalive before older ones. */
	if (env->oldest_new == s) {
		do
			env->oldest_new = TAILQ_PREV(env->oldest_new, session_list, entry);
		while (env->oldest_new && env->oldest_new->has_keepalive);
	}
	env->admission.sessions--;
}

void env_watch(struct session *s)
{
	bool unpolled = s->phase < SESSION_RELAYING || !s->c2s.reading || !s->s2c.reading;

	if (unpolled && !s->unpolled)
		TAILQ_INSERT_TAIL(&s->env->unpolled, s, unpolled_entry);
	else if (!unpolled && s->unpolled)
		TAILQ_REMOVE(&s->env->unpolled, s, unpolled_entry);
	s->env->n_unpolled += (uint32_t)unpolled - (uint32_t)s->unpolled;
	s->unpolled = unpolled;
}
