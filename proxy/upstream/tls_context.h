/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the TLS connections to one upstream have in common: trusted certificates, the last session.
 */
#ifndef TPROXY_TLS_CONTEXT_H
#define TPROXY_TLS_CONTEXT_H

#include <openssl/types.h>
#include <stdbool.h>

/* Size of a text that tells why TLS failed. It may have the path of a file. */
#define TLS_WHY_LEN 512

struct tls_settings {
	const char *name; /* host name or numeric address that the certificate must have; the host
			     name is sent as SNI */
	const char *ca;	  /* file of trusted certificates (PEM); NULL or empty: the system's */
	bool verify;	  /* false: any certificate is accepted */
};

struct tls_context;
struct tls_socket;

/*
 * Creates a context, with one reference. Any thread. Returns 0 or -errno, and then a text in why.
 * Does not log.
 */
int tls_context_new(const struct tls_settings *settings, struct tls_context **ret_context,
		    char why[TLS_WHY_LEN]);
/* Any thread. NULL is ignored by unref. Bridges keep references of their own. */
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context);

/*
 * True if the file of trusted certificates, or a directory of the system's, has changed or is gone
 * since it was read: what a new context would trust may differ. Any thread.
 */
bool tls_context_is_stale(const struct tls_context *context);

/*
 * For a bridge: a new connection on a socket, which stays the caller's. It resumes the last session
 * if it can. Context and socket must outlive it. Returns NULL without memory; the caller frees it.
 */
SSL *tls_context_connect(struct tls_context *context, struct tls_socket *socket);
/* Returns a text for the oldest error in the thread's queue of OpenSSL. */
const char *tls_context_reason(void);

#endif
