/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sessions whose client's connect() is pending, for tests. The clients are real: their SYNs go to a
 * sink, which swallows them, and the session joins them by simultaneous open. The kernel half is
 * not there: pending_state() below looks at the client's socket in place of the slot, and a client
 * that gets an answer does not see it. Included by one file of each test program.
 */
#ifndef TPROXY_PENDINGS_H
#define TPROXY_PENDINGS_H

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/syscall.h>

#include "environment.h"
#include "session/join.h"
#include "session/naming.h"
#include "session/opening_pending.h"
#include "upstreams.h"

/* The slot of the client. */
static struct {
	int client; /* its socket: the slot follows it */
	bool gone;  /* the client has given up */
	bool mute;  /* the slot does not say that the client is established */
	enum tproxy_answer answer;
	int answers;
} slot;

static const struct pending pending = { .slot = 5, .generation = 9 };

static inline int tcp_state(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	return getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_state : TCP_CLOSE;
}

/* These replace the functions of proxy/kernel/pending.c. */
enum pending_state pending_state(const struct pending_maps *maps, const struct pending *p)
{
	int state = tcp_state(slot.client);

	if (p->slot != pending.slot || p->generation != pending.generation || slot.gone)
		return PENDING_GONE;
	return !slot.mute && (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT)
		       ? PENDING_ESTABLISHED
		       : PENDING_WAITS;
}

void pending_answer(const struct pending_maps *maps, const struct pending *p,
		    enum tproxy_answer answer)
{
	assert_int_equal(p->slot, pending.slot);
	assert_int_equal(p->generation, pending.generation);
	slot.answer = answer;
	slot.answers++;
}

#define MARKS_FD 1000 /* no descriptor of this process has the number */

/* Replaces that of libbpf: counts what is noted in map_failed, and the marks of sockets. */
static int noted, marked;

int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
	const struct tproxy_mark *mark = value;

	if (fd == MARKS_FD) {
		assert_true(mark->flags & TPROXY_MARK_UPSTREAM);
		if (mark->flags & TPROXY_MARK_JOINS)
			assert_int_equal(mark->conn.pending, pending.slot + 1);
		else
			assert_false(env.exempt);
		marked++;
	} else {
		noted++;
	}
	return 0;
}

static struct sockaddr_in relay_addr, client_addr;

static int relay_sink, silent_sink; /* silent_sink: a server that does not answer */
static struct sockaddr_in silent_addr;

static bool slow_server;       /* connect() to the server takes until the next event */
static int join_connect_error; /* of connect() to the client, or 0 */

int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	const struct sockaddr_in *in = addr.__sockaddr_in__;
	static bool begun;
	int r;

	if (join_connect_error && in->sin_port == client_addr.sin_port) {
		errno = join_connect_error;
		return -1;
	}
	if (slow_server && begun && in->sin_port == server_addr.sin_port) {
		begun = false;
		errno = EALREADY;
		return -1;
	}
	r = (int)syscall(SYS_connect, fd, in, len);
	if (slow_server && in->sin_port == server_addr.sin_port) {
		begun = true;
		errno = EINPROGRESS;
		return -1;
	}
	return r;
}

/* Makes a socket that swallows SYNs. */
static inline int make_sink(struct sockaddr_in *addr)
{
	const int on = 1, ttl = 255;
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*addr = (struct sockaddr_in){ .sin_family = AF_INET,
				      .sin_addr = { htonl(INADDR_LOOPBACK) } };
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_MINTTL, &ttl, sizeof(ttl)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static inline int setup_pending(void **state)
{
	int r = setup(state);

	memset(&slot, 0, sizeof(slot));
	slot.client = -1;
	noted = marked = join_connect_error = 0;
	slow_server = false;
	join_limit_ms = 3000;
	relay_sink = make_sink(&relay_addr);
	silent_sink = make_sink(&silent_addr);
	env.exempt = true;
	env.pending = (const struct pending_maps *)&slot;
	env.marks.error_memory_ms = 1000;
	env.marks.marks_fd = MARKS_FD;
	return r;
}

static inline int teardown_pending(void **state)
{
	int r;

	assert_int_equal(env.joins.n, 0);
	r = teardown(state);
	upstreams_unref(env.upstreams);
	close(relay_sink);
	close(silent_sink);
	return r;
}

static inline void set_endpoint(struct tproxy_endpoint *ep, const struct sockaddr_in *addr)
{
	union sockaddr_any any = { .in = *addr };

	marks_address(ep->addr, &any);
	ep->port = ntohs(addr->sin_port);
}

static struct tproxy_conn conn; /* of the next client */

/* A client connects to dst, its SYN is swallowed, and the relay gets to know. */
static inline void call(struct fixture *f, const struct sockaddr_in *dst)
{
	socklen_t len = sizeof(client_addr);
	int upstream = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	slot.client = f->client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(f->client, (struct sockaddr *)&relay_addr, sizeof(relay_addr)),
			 -1);
	assert_int_equal(errno, EINPROGRESS);
	getsockname(f->client, (struct sockaddr *)&client_addr, &len);
	set_endpoint(&conn.src, &client_addr);
	set_endpoint(&conn.dst, dst);
	set_endpoint(&conn.relay, &relay_addr);
	conn.pending = pending.slot + 1;
	conn.generation = pending.generation;
	conn.started_ns = monotonic_kernel_ns() - 500 * 1000000;
	sock_prepare(upstream);
	note_start();
	session_create_pending(&env, &pending, &conn, upstream);
	conn = (struct tproxy_conn){};
}

static inline void accept_server(struct fixture *f)
{
	fcntl(f->server_listener, F_SETFL, O_NONBLOCK);
	f->server = accept(f->server_listener, NULL, NULL);
	assert_true(f->server >= 0);
}

static inline uint64_t honest(enum honest_count count)
{
	return atomic_load(&env.stats.honest[count]);
}

static inline void assert_answer(enum tproxy_answer answer)
{
	assert_int_equal(slot.answer, answer);
	assert_int_equal(slot.answers, answer != TPROXY_ANSWER_NONE);
}

/* The client still waits: nobody has accepted or reset it. */
static inline void assert_waits(struct fixture *f)
{
	assert_int_equal(tcp_state(f->client), TCP_SYN_SENT);
}

static inline void close_both(struct fixture *f)
{
	close(TAKE_FD(f->client));
	close(TAKE_FD(f->server));
}

static inline void assert_relays(struct fixture *f)
{
	assert_answer(TPROXY_ANSWER_TAKEN);
	assert_int_equal(honest(HONEST_JOINED), 1);
	assert_int_equal(atomic_load(&env.stats.accepted), 1);
	assert_false(session_pending_known(&env, &pending));
	say(f, f->client, f->server, "request");
	say(f, f->server, f->client, "answer");
}

#define pending_test(test) cmocka_unit_test_setup_teardown(test, setup_pending, teardown_pending)

#endif
