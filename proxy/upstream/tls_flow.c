// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See tls_flow.h. */
#include "tls_flow.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "handshake.h"
#include "secret.h"

/* Limit of pieces that one turn moves in each direction, so that other connections get theirs. */
#define ROUNDS_MAX 8

/*
 * A piece up to this length may be a request with a password, and is kept in memory that core dumps
 * leave out. Most others are longer: mappings of their own would slow down bulk.
 */
#define REQUEST_MAX HANDSHAKE_OUT_MAX

struct tls_kept {
	size_t off, len; /* len bytes at data + off are left */
	char data[];
};

static enum tls_need fail(struct tls_failure *ret_failure, int error, const char *why)
{
	ret_failure->error = error;
	snprintf(ret_failure->why, sizeof(ret_failure->why), "%s", why);
	return TLS_FAILED;
}

static enum tls_need fail_by(struct tls_failure *ret_failure, int error)
{
	return fail(ret_failure, error, strerror(error));
}

static enum tls_need fail_tls(const struct tls_flows *f, int ssl_error,
			      struct tls_failure *ret_failure)
{
	const int error = errno;
	const long verified = SSL_get_verify_result(f->ssl);

	/* OpenSSL says ZERO_RETURN also of a write that fails after close_notify has come. */
	if ((ssl_error == SSL_ERROR_SYSCALL || ssl_error == SSL_ERROR_ZERO_RETURN) && error)
		return fail_by(ret_failure, error == EPIPE ? ECONNRESET : error);
	if (ssl_error == SSL_ERROR_SYSCALL || ssl_error == SSL_ERROR_ZERO_RETURN
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
	    || ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
#endif
	)
		return fail(ret_failure, ECONNRESET,
			    f->open ? "the TLS stream was cut off: it ended without close_notify"
				    : "closed in the TLS handshake");
	ret_failure->error = EPROTO;
	if (!f->open && verified != X509_V_OK && SSL_get_verify_mode(f->ssl))
		snprintf(ret_failure->why, sizeof(ret_failure->why), "certificate refused: %s",
			 X509_verify_cert_error_string(verified));
	else
		snprintf(ret_failure->why, sizeof(ret_failure->why), "TLS: %s",
			 tls_context_reason());
	return TLS_FAILED;
}

/* Returns what an operation of OpenSSL that did not succeed waits for, or TLS_FAILED. */
static enum tls_need tls_needs(const struct tls_flows *f, int r, struct tls_failure *ret_failure)
{
	const int ssl_error = SSL_get_error(f->ssl, r);

	switch (ssl_error) {
	case SSL_ERROR_WANT_READ:
		return TLS_NEEDS_FD_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_NEEDS_FD_WRITE;
	}
	return fail_tls(f, ssl_error, ret_failure);
}

/* OpenSSL reports errors through a queue of the thread, which must be empty before. */
static void before_tls(void)
{
	ERR_clear_error();
	errno = 0;
}

static bool keep(struct tls_flow *flow, const char *data, size_t len)
{
	const size_t size = sizeof(*flow->kept) + len;

	flow->kept = len <= REQUEST_MAX ? secret_memory_new(size) : malloc(size);
	if (!flow->kept)
		return false;
	*flow->kept = (struct tls_kept){ .len = len };
	memcpy(flow->kept->data, data, len);
	return true;
}

static void free_kept(struct tls_flow *flow)
{
	const size_t len = flow->kept ? flow->kept->off + flow->kept->len : 0;

	if (len <= REQUEST_MAX)
		secret_memory_free(flow->kept, sizeof(*flow->kept) + len);
	else
		free(flow->kept);
	flow->kept = NULL;
}

/* n bytes of the kept piece are written. */
static void drop(struct tls_flow *flow, size_t n)
{
	flow->kept->off += n;
	flow->kept->len -= n;
	if (flow->kept->len == 0)
		free_kept(flow);
}

/* Sends len bytes, or what is kept if data is NULL. Keeps what is not sent. */
static enum tls_need write_up(struct tls_flows *f, const char *data, size_t len,
			      struct tls_failure *ret_failure)
{
	struct tls_kept *kept = f->up.kept;
	enum tls_need need;
	int n;

	before_tls();
	n = SSL_write(f->ssl, data ? data : kept->data + kept->off, (int)(data ? len : kept->len));
	if (n > 0) {
		if (!data)
			drop(&f->up, (size_t)n);
		else if ((size_t)n < len && !keep(&f->up, data + n, len - (size_t)n))
			return fail_by(ret_failure, ENOMEM);
		return TLS_NEEDS_TURN;
	}
	need = tls_needs(f, n, ret_failure);
	if (need != TLS_FAILED && data && !keep(&f->up, data, len))
		return fail_by(ret_failure, ENOMEM);
	return need;
}

/* The near end has ended, and everything before that is sent: sends close_notify. */
static enum tls_need end_up(struct tls_flows *f, struct tls_failure *ret_failure)
{
	int r;

	before_tls();
	/* 0: it is sent, and the upstream's is still to come. */
	r = SSL_shutdown(f->ssl);
	if (r < 0)
		return tls_needs(f, r, ret_failure);
	f->notified = true;
	return TLS_NEEDS_NOTHING;
}

static enum tls_need move_up(struct tls_flows *f, struct tls_failure *ret_failure)
{
	enum tls_need need;
	ssize_t n;

	if (f->notified)
		return TLS_NEEDS_NOTHING;
	if (f->up.kept)
		return write_up(f, NULL, 0, ret_failure);
	if (f->up.eof)
		return end_up(f, ret_failure);
	n = recv(f->far, f->scratch, TLS_PIECE, 0);
	if (n > 0) {
		need = write_up(f, f->scratch, (size_t)n, ret_failure);
		explicit_bzero(f->scratch, (size_t)n);
		/* A short read: there is no more. */
		if (need == TLS_NEEDS_TURN && n < TLS_PIECE && !f->up.kept)
			return TLS_NEEDS_FAR_READ;
		return need;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return TLS_NEEDS_FAR_READ;
	/* An error: the near end was closed, and had not read everything. */
	f->up.eof = true;
	return TLS_NEEDS_TURN;
}

/* Writes len bytes to the pair, or what is kept if data is NULL. Keeps what is not written. */
static enum tls_need write_down(struct tls_flows *f, const char *data, size_t len,
				struct tls_failure *ret_failure)
{
	struct tls_kept *kept = f->down.kept;
	ssize_t n = send(f->far, data ? data : kept->data + kept->off, data ? len : kept->len,
			 MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		/* The near end is closed: nobody reads this. */
		free_kept(&f->down);
		f->down.eof = true;
		return TLS_NEEDS_NOTHING;
	}
	if (n < 0)
		n = 0;
	if (!data)
		drop(&f->down, (size_t)n);
	else if ((size_t)n < len && !keep(&f->down, data + n, len - (size_t)n))
		return fail_by(ret_failure, ENOMEM);
	return f->down.kept ? TLS_NEEDS_FAR_WRITE : TLS_NEEDS_TURN;
}

static enum tls_need move_down(struct tls_flows *f, struct tls_failure *ret_failure)
{
	int n;

	if (f->down.eof)
		return TLS_NEEDS_NOTHING;
	if (f->down.kept)
		return write_down(f, NULL, 0, ret_failure);
	before_tls();
	n = SSL_read(f->ssl, f->scratch, TLS_PIECE);
	if (n > 0)
		return write_down(f, f->scratch, (size_t)n, ret_failure);
	if (SSL_get_error(f->ssl, n) != SSL_ERROR_ZERO_RETURN)
		return tls_needs(f, n, ret_failure);
	f->down.eof = true;
	shutdown(f->far, SHUT_WR);
	return TLS_NEEDS_NOTHING;
}

typedef enum tls_need (*move_fn)(struct tls_flows *f, struct tls_failure *ret_failure);

static enum tls_need run(struct tls_flows *f, move_fn move, struct tls_failure *ret_failure)
{
	enum tls_need need = TLS_NEEDS_TURN;
	int i;

	tls_bio_begin_turn(&f->socket);
	for (i = 0; i < ROUNDS_MAX && need == TLS_NEEDS_TURN; i++)
		need = move(f, ret_failure);
	return need;
}

enum tls_need tls_flow_up(struct tls_flows *flows, struct tls_failure *ret_failure)
{
	return run(flows, move_up, ret_failure);
}

enum tls_need tls_flow_down(struct tls_flows *flows, struct tls_failure *ret_failure)
{
	return run(flows, move_down, ret_failure);
}

enum tls_need tls_flow_handshake(struct tls_flows *flows, struct tls_failure *ret_failure)
{
	int r;

	tls_bio_begin_turn(&flows->socket);
	before_tls();
	r = SSL_connect(flows->ssl);
	if (r != 1)
		return tls_needs(flows, r, ret_failure);
	flows->open = true;
	return TLS_NEEDS_NOTHING;
}

void tls_flow_finish(struct tls_flows *flows)
{
	free_kept(&flows->up);
	free_kept(&flows->down);
}
