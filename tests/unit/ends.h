/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A client and a server on loopback, and a session between them, for tests of sessions. The test
 * itself runs the event loop. No BPF: origdst_get() below supplies the original destination.
 * Included by one file of each test program.
 */
#ifndef TPROXY_ENDS_H
#define TPROXY_ENDS_H

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/origdst.h"
#include "monotonic.h"
#include "session/opening.h"
#include "session/session.h"
#include "upstream/sock.h"
#include "unit.h"
#include "util.h"

static struct sockaddr_in server_addr;
static int origdst_result;

/* Replaces the function of proxy/kernel/origdst.c. */
int origdst_get(int fd, sa_family_t family, union sockaddr_any *ret_dst,
		struct tproxy_conn *ret_conn)
{
	*ret_conn = (struct tproxy_conn){};
	ret_dst->in = server_addr;
	return origdst_result;
}

int origdst_get_conn(int fd, struct tproxy_conn *ret_conn)
{
	return -ENOENT;
}

struct fixture {
	struct session_env *env;
	/* What a listener does before and after session_create(); NULL: nothing. */
	void (*before_session)(void), (*after_session)(void);
	int client; /* the redirected program's socket, blocking */
	int server; /* the server's accepted socket, -1 until then */
	int server_listener;
};

static int listen_on(struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*addr = (struct sockaddr_in){ .sin_family = AF_INET,
				      .sin_addr = { htonl(INADDR_LOOPBACK) } };
	assert_int_equal(bind(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	return fd;
}

static void turn(struct fixture *f)
{
	int i;

	/*
	 * Everything is on loopback, so what one side does reaches the other within a few
	 * iterations.
	 */
	for (i = 0; i < 20; i++) {
		event_base_loop(f->env->base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
}

static inline void start(struct fixture *f)
{
	struct sockaddr_in addr;
	union sockaddr_any peer;
	socklen_t len = sizeof(peer);
	int listener = listen_on(&addr), accepted, upstream;

	f->client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(f->client, (struct sockaddr *)&addr, sizeof(addr)), 0);
	accepted = accept4(listener, &peer.sa, &len, SOCK_NONBLOCK);
	close(listener);
	if (f->before_session)
		f->before_session();
	upstream = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	sock_prepare(upstream);
	session_create(f->env, accepted, upstream, &peer, /* under_load= */ false);
	if (f->after_session)
		f->after_session();
	turn(f);
	if (f->server_listener >= 0 && origdst_result == ORIGDST_FOUND) {
		fcntl(f->server_listener, F_SETFL, O_NONBLOCK);
		f->server = accept(f->server_listener, NULL, NULL);
	}
}

static void ends_init(struct fixture *f, struct session_env *env)
{
	signal(SIGPIPE, SIG_IGN);
	*f = (struct fixture){ .env = env, .client = -1, .server = -1 };
	f->server_listener = listen_on(&server_addr);
	origdst_result = ORIGDST_FOUND;
}

/* No test may leave a session behind. */
static void ends_finish(struct fixture *f)
{
	turn(f);
	assert_true(TAILQ_EMPTY(&f->env->sessions));
	assert_int_equal(f->env->admission.sessions, 0);
	assert_int_equal(f->env->n_unpolled, 0);
	assert_int_equal(f->env->acks.n, 0);
	assert_int_equal(f->env->bulk.n, 0);
	assert_null(f->env->oldest_new);
	close(f->client);
	close(f->server);
	close(f->server_listener);
}

static uint64_t closed(const struct fixture *f, enum close_reason reason)
{
	return atomic_load(&f->env->stats.closed[reason]);
}

static inline void reset(int *fd)
{
	sock_close_reset(*fd);
	*fd = -1;
}

#endif
