// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See env.h: which lists of its environment a session is on. */
#include "env.h"

#include "state.h"

/* How often an inactive session is checked for progress within its timeout, see expiry.c. */
#define LOOKS 8

/* Callback of busypoll.h. */
static void send_acks(void *arg, bool all)
{
	struct session_env *env = arg;

	ack_send(&env->acks, all);
}

void env_init(struct session_env *env)
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

void env_add(struct session_env *env, struct session *s)
{
	s->env = env;
	TAILQ_INSERT_HEAD(&env->sessions, s, entry);
	if (!env->unsettled)
		env->unsettled = s;
	env->crowd.sessions++;
}

void env_add_again(struct session_env *env, struct session *s)
{
	s->env = env;
	/* At the tail: sessions that are not settled are at the head. */
	TAILQ_INSERT_TAIL(&env->sessions, s, entry);
}

void env_remove(struct session *s)
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

void env_settle(struct session *s)
{
	if (s->env->unsettled == s)
		s->env->unsettled = TAILQ_PREV(s, session_list, entry);
	s->env->crowd.sessions--;
}

void env_watch(struct session *s)
{
	bool deaf = s->phase < SESSION_RELAYING || !s->up.reading || !s->down.reading;

	if (deaf && !s->deaf)
		TAILQ_INSERT_TAIL(&s->env->deaf, s, deaf_entry);
	else if (!deaf && s->deaf)
		TAILQ_REMOVE(&s->env->deaf, s, deaf_entry);
	s->env->n_deaf += (uint32_t)deaf - (uint32_t)s->deaf;
	s->deaf = deaf;
}
