// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See tls_bio.h. One BIO_METHOD serves all threads. It is made once and never freed. */
#include "tls_bio.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>

/*
 * 32 records: four times as many as a turn of a flow passes on, and half a millisecond of messages
 * that OpenSSL handles by itself.
 */
#define READS_MAX 64

static BIO_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool would_block(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static int read_some(BIO *bio, char *buf, int len)
{
	struct tls_socket *s = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	if (s->reads == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	s->reads--;
	n = recv(s->fd, buf, (size_t)len, 0);
	if (n < 0 && would_block())
		BIO_set_retry_read(bio);
	/* For BIO_CTRL_EOF: OpenSSL 3 has an error of its own for an end without close_notify. */
	if (n == 0)
		BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
	return (int)n;
}

static int write_some(BIO *bio, const char *buf, int len)
{
	const struct tls_socket *s = BIO_get_data(bio);
	ssize_t n = send(s->fd, buf, (size_t)len, MSG_NOSIGNAL);

	BIO_clear_retry_flags(bio);
	if (n < 0 && would_block())
		BIO_set_retry_write(bio);
	return (int)n;
}

static long control(BIO *bio, int command, long number, void *data)
{
	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
	default:
		return 0;
	}
}

static void make_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tproxy socket");

	if (m && BIO_meth_set_read(m, read_some) && BIO_meth_set_write(m, write_some) &&
	    BIO_meth_set_ctrl(m, control))
		method = m;
	else
		BIO_meth_free(m);
}

BIO *tls_bio_new(struct tls_socket *socket)
{
	BIO *bio;

	pthread_once(&once, make_method);
	bio = method ? BIO_new(method) : NULL;
	if (!bio)
		return NULL;
	BIO_set_data(bio, socket);
	BIO_set_init(bio, 1);
	return bio;
}

void tls_bio_begin_turn(struct tls_socket *socket)
{
	socket->reads = READS_MAX;
}
