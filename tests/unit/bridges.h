/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A bridge (proxy/upstream/tls.h) to a TLS server on loopback, for tests. The server is a thread of
 * the test, for one connection: start_server() says what it does. The test runs the event loop of
 * the bridge, and uses the near end. Included by one file of each test program.
 */
#ifndef TPROXY_BRIDGES_H
#define TPROXY_BRIDGES_H

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "identities.h"
#include "loop.h"
#include "monotonic.h"
#include "unit.h"
#include "upstream/tls.h"
#include "util.h"

static struct fixture {
	struct event_base *base;
	struct tls_home home;
	struct tls_context *context;
	struct tls_bridge *bridge;
	int near;
	int opened, failed; /* calls of on_done() */
	int error;
	char why[TLS_WHY_LEN];
	int ended;	    /* calls of tls_home::on_end */
	bool close_on_done; /* on_done() closes the bridge */
	/* The server: */
	int listener;
	struct sockaddr_in addr;
	pthread_t thread;
	bool running;
	const struct identity *identity;
	int version; /* 0: any */
	SSL_CTX *ctx;
	void (*serve)(struct fixture *f, SSL *ssl, int fd);
	_Atomic int stage; /* told by the server, or to it */
	_Atomic size_t moved, asked;
} f;

/* The server */

static inline void *server_main(void *arg)
{
	int fd = accept(f.listener, NULL, NULL);
	const struct timeval limit = { .tv_sec = LOOP_WAIT_MS / 1000 };
	SSL *ssl;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (!f.identity) {
		f.serve(&f, NULL, fd);
		return NULL;
	}
	ssl = SSL_new(f.ctx);
	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1)
		f.serve(&f, ssl, fd);
	else
		close(fd);
	SSL_free(ssl);
	ERR_clear_error();
	return NULL;
}

static inline int choose_name(SSL *ssl, int *alert, void *arg)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	f.stage = name && strcmp(name, "proxy.example.org") == 0 ? 1 : 0;
	return SSL_TLSEXT_ERR_OK;
}

static inline SSL_CTX *server_context(const struct identity *id, int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_use_certificate(ctx, id->cert);
	SSL_CTX_use_PrivateKey(ctx, id->key);
	SSL_CTX_set_tlsext_servername_callback(ctx, choose_name);
	return ctx;
}

/*
 * Starts the server, with fixture::identity. serve() gets the connection and closes its descriptor;
 * with TLS, after a handshake that succeeded. Without an identity there is no TLS: ssl is NULL.
 */
static inline void start_server(void (*serve)(struct fixture *, SSL *, int))
{
	f.serve = serve;
	f.stage = 0;
	f.moved = f.asked = 0;
	if (f.identity && !f.ctx)
		f.ctx = server_context(f.identity, f.version);
	assert_int_equal(pthread_create(&f.thread, NULL, server_main, NULL), 0);
	f.running = true;
}

/* Waits until serve() has returned. */
static inline void join_server(void)
{
	if (f.running)
		pthread_join(f.thread, NULL);
	f.running = false;
}

static inline void end_well(SSL *ssl, int fd)
{
	SSL_shutdown(ssl);
	close(fd);
}

static inline void serve_nothing(struct fixture *fixture, SSL *ssl, int fd)
{
	char byte;

	SSL_read(ssl, &byte, 1);
	close(fd);
}

/* The bridge */

static inline void on_done(void *data, int error, const char *why)
{
	assert_ptr_equal(data, &f);
	if (error) {
		f.failed++;
		f.error = error;
		snprintf(f.why, sizeof(f.why), "%s", why);
	} else {
		f.opened++;
	}
	if (f.close_on_done)
		tls_bridge_close(TAKE_PTR(f.bridge), /* reset= */ true);
}

static inline void on_end(void *owner)
{
	f.ended++;
}

/* Small buffers, so that little suffices to fill them. The server inherits its listener's. */
static inline void set_buffers(int fd)
{
	const int size = 64 << 10;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static inline int setup(void **state)
{
	socklen_t len = sizeof(f.addr);

	f = (struct fixture){ .near = -1, .identity = &server };
	f.base = event_base_new();
	assert_int_equal(tls_home_init(&f.home, f.base), 0);
	f.home.on_end = on_end;
	f.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	set_buffers(f.listener);
	f.addr = (struct sockaddr_in){ .sin_family = AF_INET,
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	assert_int_equal(bind(f.listener, (struct sockaddr *)&f.addr, len), 0);
	assert_int_equal(listen(f.listener, 8), 0);
	assert_int_equal(getsockname(f.listener, (struct sockaddr *)&f.addr, &len), 0);
	return 0;
}

/* Ends the bridge, if there is one, and closes the near end. */
static inline void close_near(bool reset)
{
	tls_bridge_close(TAKE_PTR(f.bridge), reset);
	util_closep(&f.near);
	f.near = -1;
}

static inline int teardown(void **state)
{
	close_near(/* reset= */ true);
	tls_home_finish(&f.home);
	assert_int_equal(f.home.n, 0);
	f.stage = f.stage < 2 ? 2 : f.stage; /* a test that failed leaves the server waiting */
	join_server();
	tls_context_unref(f.context);
	SSL_CTX_free(f.ctx);
	close(f.listener);
	event_base_free(f.base);
	return 0;
}

/* Makes the context of the next bridge. name: the one to expect; file: authorities, NULL: system */
static inline void use_context(const char *name, const char *file, bool verify)
{
	const struct tls_settings settings = { .name = name, .ca = file, .verify = verify };
	char why[TLS_WHY_LEN];

	assert_int_equal(tls_context_new(&settings, &f.context, why), 0);
}

/* Connects to the server. By default its name and its authority are the right ones. */
static inline void start_bridge(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!f.context)
		use_context("proxy.example.org", ca_file, true);
	set_buffers(fd);
	assert_int_equal(connect(fd, (struct sockaddr *)&f.addr, sizeof(f.addr)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(tls_bridge_new(&f.home, fd, f.context, on_done, &f, &f.near, &f.bridge),
			 0);
}

/* Runs the event loop until the condition is true. */
#define run_until(condition) loop_until(f.base, condition)

/* Reads text from the near end while the loop runs. */
static inline void expect(const char *text)
{
	char got[256] = "";
	size_t n = 0;
	ssize_t r;

	while (n < strlen(text)) {
		run_until((r = recv(f.near, got + n, strlen(text) - n, 0)) >= 0 || errno != EAGAIN);
		assert_true(r > 0);
		n += (size_t)r;
	}
	assert_string_equal(got, text);
}

static inline void expect_end(void)
{
	char byte;
	ssize_t r;

	run_until((r = recv(f.near, &byte, 1, 0)) >= 0);
	assert_int_equal(r, 0);
}

static inline void say(const char *text)
{
	assert_int_equal(send(f.near, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* The handshake fails, with this text in its reason. */
static inline void refused(void (*serve)(struct fixture *, SSL *, int), const char *why)
{
	start_server(serve);
	start_bridge();
	run_until(f.failed);
	assert_int_equal(f.opened, 0);
	assert_int_equal(f.error, EPROTO);
	if (!strstr(f.why, why))
		fail_msg("\"%s\" is not in \"%s\"", why, f.why);
	close_near(/* reset= */ true);
	assert_int_equal(f.home.n, 0);
}

#define bridge_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
