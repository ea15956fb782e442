// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See tls_context.h. The settings are in a SSL_CTX of OpenSSL, and do not change. What changes is
 * the session of the last connection, under a lock: the next connection resumes it, which saves a
 * round trip and the check of the certificate. After SESSION_S the certificate is checked again.
 */
#include "tls_context.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls_bio.h"
#include "trust.h"
#include "trust_directory.h"
#include "trust_system.h"

/* A session is not resumed after this time, so that the certificate is verified again. */
#define SESSION_S 3600

struct tls_context {
	_Atomic uint32_t refs;
	SSL_CTX *ctx;
	char *sni; /* NULL: none is sent */
	pthread_mutex_t lock;
	SSL_SESSION *session; /* under lock: of the last connection, or NULL */
	time_t session_time;
	char *ca; /* file of trusted certificates, or NULL: no certificate is verified */
	const char *directories; /* of the system, or NULL */
	uint64_t trust_state;	 /* of both, before they were read: a later change is found */
};

const char *tls_context_reason(void)
{
	const unsigned long error = ERR_peek_error();
	const char *reason = ERR_reason_error_string(error);

	/* OpenSSL 3 has no text for errors of the system, such as a file that is missing. */
	if (!reason && ERR_GET_LIB(error) == ERR_LIB_SYS)
		return strerror(ERR_GET_REASON(error));
	return reason ? reason : "unknown error";
}

static int context_failed(char why[TLS_WHY_LEN], const char *what, int error)
{
	snprintf(why, TLS_WHY_LEN, "%s: %s", what, tls_context_reason());
	ERR_clear_error();
	return error;
}

static bool is_numeric(const char *name)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, name, &addr) == 1 || inet_pton(AF_INET6, name, &addr) == 1;
}

/* Callback of OpenSSL: a connection has a session that can be resumed. Returns 0: no reference is
 * kept. A copy, because OpenSSL marks the session of a connection that is reset as unusable. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_context *context = SSL_get_app_data(ssl);
	SSL_SESSION *copy = SSL_SESSION_dup(session), *old;

	pthread_mutex_lock(&context->lock);
	old = context->session;
	context->session = copy;
	/* A resumed connection does not verify again: the time of the first one counts. */
	if (!SSL_session_reused(ssl))
		context->session_time = time(NULL);
	pthread_mutex_unlock(&context->lock);
	SSL_SESSION_free(old);
	return 0;
}

/* Returns a copy of the session to resume, or NULL. */
static SSL_SESSION *session_of(struct tls_context *context)
{
	SSL_SESSION *session = NULL;

	pthread_mutex_lock(&context->lock);
	if (context->session && time(NULL) - context->session_time < SESSION_S)
		session = SSL_SESSION_dup(context->session);
	pthread_mutex_unlock(&context->lock);
	return session;
}

static uint64_t trust_state(const struct tls_context *context)
{
	uint64_t state = trust_mix_state(TRUST_STATE_FIRST, context->ca);

	if (context->directories)
		state = trust_directory_state(state, context->directories);
	return state;
}

/* Sets the certificates to trust. */
static int set_trust(struct tls_context *context, const char *ca, char why[TLS_WHY_LEN])
{
	X509_STORE *store = SSL_CTX_get_cert_store(context->ctx);
	const bool of_system = !ca || !*ca;

	context->ca = strdup(of_system ? trust_system_file() : ca);
	if (!context->ca)
		return context_failed(why, "OpenSSL", -ENOMEM);
	if (of_system)
		context->directories = trust_system_directories();
	context->trust_state = trust_state(context);
	return of_system ? trust_load_system(store, why, TLS_WHY_LEN)
			 : trust_load(store, ca, why, TLS_WHY_LEN);
}

static int set_verification(struct tls_context *context, const struct tls_settings *settings,
			    char why[TLS_WHY_LEN])
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context->ctx);
	int ok, r;

	SSL_CTX_set_verify(context->ctx, SSL_VERIFY_PEER, NULL);
	r = set_trust(context, settings->ca, why);
	if (r < 0)
		return r;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	ok = is_numeric(settings->name) ? X509_VERIFY_PARAM_set1_ip_asc(param, settings->name)
					: X509_VERIFY_PARAM_set1_host(param, settings->name, 0);
	return ok ? 0 : context_failed(why, settings->name, -EINVAL);
}

static int set_up(struct tls_context *context, const struct tls_settings *settings,
		  char why[TLS_WHY_LEN])
{
	SSL_CTX *ctx = context->ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION))
		return context_failed(why, "OpenSSL", -ENOMEM);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	if (!is_numeric(settings->name) && settings->name[0]) {
		context->sni = strdup(settings->name);
		if (!context->sni)
			return context_failed(why, "OpenSSL", -ENOMEM);
	}
	if (!settings->verify)
		return 0;
	return set_verification(context, settings, why);
}

int tls_context_new(const struct tls_settings *settings, struct tls_context **ret_context,
		    char why[TLS_WHY_LEN])
{
	struct tls_context *context;
	int r;

	if (settings->verify && !settings->name[0]) {
		snprintf(why, TLS_WHY_LEN, "there is no name that the certificate must have");
		return -EINVAL;
	}
	context = calloc(1, sizeof(*context));
	if (!context) {
		snprintf(why, TLS_WHY_LEN, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	context->refs = 1;
	pthread_mutex_init(&context->lock, NULL);
	ERR_clear_error();
	r = set_up(context, settings, why);
	if (r < 0) {
		tls_context_unref(context);
		return r;
	}
	*ret_context = context;
	return 0;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
	atomic_fetch_add(&context->refs, 1);
	return context;
}

void tls_context_unref(struct tls_context *context)
{
	if (!context || atomic_fetch_sub(&context->refs, 1) > 1)
		return;
	SSL_SESSION_free(context->session);
	SSL_CTX_free(context->ctx);
	pthread_mutex_destroy(&context->lock);
	free(context->sni);
	free(context->ca);
	free(context);
}

bool tls_context_is_stale(const struct tls_context *context)
{
	return context->ca && trust_state(context) != context->trust_state;
}

SSL *tls_context_connect(struct tls_context *context, struct tls_socket *socket)
{
	SSL *ssl = SSL_new(context->ctx);
	BIO *bio = tls_bio_new(socket);
	SSL_SESSION *session;

	if (!ssl || !bio) {
		SSL_free(ssl);
		BIO_free(bio);
		return NULL;
	}
	SSL_set_bio(ssl, bio, bio);
	if (!SSL_set_app_data(ssl, context) ||
	    (context->sni && !SSL_set_tlsext_host_name(ssl, context->sni))) {
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_connect_state(ssl);
	session = session_of(context);
	if (session) {
		SSL_set_session(ssl, session);
		SSL_SESSION_free(session);
	}
	return ssl;
}
