/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Inside the resolver (resolver.h): its names, and the questions that wait for them. Only
 * resolved.c, resolver_thread.c and resolver_port.c include this.
 *
 * Each name has an entry, struct resolved, which is the same for names that were added and for
 * those that are only remembered. An entry that must be asked for is on the list "wanted"; the
 * thread takes it from there. One that is being asked for, so that it has resolved::answer, is not
 * freed.
 *
 * resolver::lock protects all entries and questions. The functions below are called with it.
 */
#ifndef TPROXY_RESOLVED_H
#define TPROXY_RESOLVED_H

#include <ares.h>
#include <poll.h>
#include <pthread.h>
#include <sys/queue.h>

#include "resolver_answer.h"
#include "resolver.h"

#define RESOLVER_BUCKETS 256
/* Sockets of c-ares: one of UDP for each server, and of TCP for long answers. */
#define RESOLVER_SOCKETS_MAX 32

TAILQ_HEAD(question_list, resolver_question);

/*
 * If a server refuses a connection, as for an answer that is too long for a datagram, c-ares fails
 * all questions that the channel has for it. Clients can ask for such names, so they have another
 * channel than upstreams.
 */
enum resolver_channel {
	RESOLVER_FILE,	  /* looks up /etc/hosts */
	RESOLVER_ADDED,	  /* asks the servers for names that were added */
	RESOLVER_CLIENTS, /* for the other ones */
	_RESOLVER_CHANNEL_MAX,
};

/* A name. */
struct resolved {
	LIST_ENTRY(resolved) bucket_entry;
	TAILQ_ENTRY(resolved) wanted_entry;	/* resolver::wanted, if wanted */
	TAILQ_ENTRY(resolved) remembered_entry; /* resolver::remembered, if added == 0 */
	struct resolver *resolver;
	uint32_t added; /* calls of resolver_add() */
	bool wanted;
	struct resolver_answer *answer; /* what has come; NULL: it is not asked for */
	enum resolver_channel servers;	/* that it is asked of */
	uint64_t settle_ms; /* when the addresses of one family are used alone; 0: never */
	bool settled;	    /* that is so, and the answer of the other family must still come */
	bool failing;	    /* the last question has failed */
	bool half;	    /* it was answered in one family, and servers failed in the other */
	bool answered;	    /* there was an answer, or a failure */
	int error;	    /* of the last question: 0 or -errno */
	uint64_t answered_ms, due_ms, retry_ms;
	size_t n;
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
	struct question_list questions; /* that wait for the answer */
	char host[];
};

struct resolver_question {
	TAILQ_ENTRY(resolver_question) entry; /* resolved::questions or resolver_port::answers */
	struct question_list *list;	      /* that it is on */
	struct resolver_port *port;
	int family; /* that has to be known, or AF_UNSPEC: both */
	resolver_answer_fn fn;
	void *data;
	int error;
	size_t n;
	union sockaddr_any addresses[RESOLVER_ADDRESSES_MAX];
};

struct resolver_port {
	LIST_ENTRY(resolver_port) port_entry; /* resolver::ports */
	struct resolver *resolver;
	struct event *event;
	int wake_fd; /* eventfd: written when there are answers */
	struct question_list answers;
};

struct resolver {
	struct resolver_config config;
	char *servers;
	pthread_t thread;
	int wake_fd; /* eventfd */
	pthread_mutex_t lock;
	bool stop;
	LIST_HEAD(, resolved) buckets[RESOLVER_BUCKETS];
	TAILQ_HEAD(, resolved) wanted, remembered; /* the oldest first */
	uint32_t n_remembered;
	LIST_HEAD(, resolver_port) ports;
	/* Of the thread: */
	/* By enum resolver_channel. NULL: nothing was asked there. */
	ares_channel channels[_RESOLVER_CHANNEL_MAX];
	uint32_t n_asking;
	struct pollfd sockets[RESOLVER_SOCKETS_MAX];
	nfds_t n_sockets;
};

/* Wakes the thread that polls an eventfd. */
void resolver_wake(int fd);

/* Returns the entry of host, which it creates if need be, or NULL if memory is short. */
struct resolved *resolved_of(struct resolver *r, const char *host);
/* Has the thread ask for a name, unless it does already. */
void resolved_want(struct resolver *r, struct resolved *e);
/* Begins to ask for a name. Returns false, and notes the failure, if memory is short. */
bool resolved_begin(struct resolver *r, struct resolved *e);
/*
 * Takes over an answer as resolver_answer_note() does, and answers the questions for this family.
 * If no family is left to ask for: notes the addresses, or the failure, and answers all questions.
 */
void resolved_note(struct resolver *r, struct resolved *e, int family, int status,
		   const struct ares_addrinfo *info);
/* It is resolved::settle_ms: uses the addresses of one family. */
void resolved_settle(struct resolved *e);
/* Gives a question the answer that is known, and hands it to its port. */
void resolved_answer(struct resolved *e, struct resolver_question *q);
/*
 * The same with a part of resolved::answer that has come. Returns false if there is none for this
 * question.
 */
bool resolved_answer_by_part(struct resolved *e, struct resolver_question *q);

#endif
