/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The certificates that the system trusts, for upstreams without tls-ca. OpenSSL has a function for
 * that, but it opens its files itself: a pipe in place of one would block the relay.
 */
#ifndef TPROXY_TRUST_SYSTEM_H
#define TPROXY_TRUST_SYSTEM_H

#include <openssl/x509_vfy.h>
#include <stddef.h>

/*
 * Adds what OpenSSL trusts by default, but opens only regular files, as trust_load() does: the file
 * of SSL_CERT_FILE, or else the built-in one, which may be missing; and the directories of
 * SSL_CERT_DIR, or else the built-in ones, which are searched later. Otherwise like trust_load().
 */
int trust_load_system(X509_STORE *store, char *why, size_t why_len);
/* Return the path of that file, and the list of directories. Valid as long as the environment. */
const char *trust_system_file(void);
const char *trust_system_directories(void);

#endif
