/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Two authorities, and certificates of a server by the first: one that is valid, and one that has
 * expired. Both are for proxy.example.org and 127.0.0.1. Each test program makes its own. Included
 * by one file of each test program.
 */
#ifndef TPROXY_IDENTITIES_H
#define TPROXY_IDENTITIES_H

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

/* A certificate and its key. */
struct identity {
	X509 *cert;
	EVP_PKEY *key;
};

static struct identity ca, other_ca, server, expired;
static char ca_file[] = "/tmp/tproxy-test-tls-XXXXXX", other_file[] = "/tmp/tproxy-test-tls-XXXXXX";

static inline void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(extension);
	X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
}

static inline void make_identity(struct identity *id, const struct identity *issuer,
				 const char *name, const char *names, long days)
{
	static long serial = 1;
	EVP_PKEY_CTX *keygen = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	X509_NAME *subject;

	id->key = NULL;
	assert_int_equal(EVP_PKEY_keygen_init(keygen), 1);
	assert_int_equal(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(keygen, NID_X9_62_prime256v1), 1);
	assert_int_equal(EVP_PKEY_keygen(keygen, &id->key), 1);
	EVP_PKEY_CTX_free(keygen);
	id->cert = X509_new();
	X509_set_version(id->cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(id->cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(id->cert), -2 * 24 * 3600);
	X509_gmtime_adj(X509_getm_notAfter(id->cert), days * 24 * 3600);
	X509_set_pubkey(id->cert, id->key);
	subject = X509_get_subject_name(id->cert);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
				   0);
	X509_set_issuer_name(id->cert, X509_get_subject_name(issuer->cert));
	add_extension(id->cert, issuer->cert, NID_basic_constraints,
		      names ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (names)
		add_extension(id->cert, issuer->cert, NID_subject_alt_name, names);
	assert_true(X509_sign(id->cert, issuer->key, EVP_sha256()) > 0);
}

static inline void free_identity(struct identity *id)
{
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
}

static inline void write_certificate(const struct identity *id, char *path)
{
	FILE *file = fdopen(mkstemp(path), "w");

	assert_non_null(file);
	assert_int_equal(PEM_write_X509(file, id->cert), 1);
	fclose(file);
}

static inline int make_certificates(void **state)
{
	static const char names[] = "DNS:proxy.example.org,IP:127.0.0.1";

	signal(SIGPIPE, SIG_IGN);
	make_identity(&ca, &ca, "authority", NULL, 2);
	make_identity(&other_ca, &other_ca, "other authority", NULL, 2);
	make_identity(&server, &ca, "proxy", names, 2);
	make_identity(&expired, &ca, "proxy", names, -1);
	write_certificate(&ca, ca_file);
	write_certificate(&other_ca, other_file);
	return 0;
}

static inline int free_certificates(void **state)
{
	free_identity(&ca);
	free_identity(&other_ca);
	free_identity(&server);
	free_identity(&expired);
	unlink(ca_file);
	unlink(other_file);
	return 0;
}

#endif
