/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Directories of trusted certificates, as c_rehash and update-ca-certificates make them: a
 * certificate is in a file HASH.N, where HASH is that of its subject and N counts from 0. A
 * certificate is read when one that it has signed is verified. Any thread may do that, so the files
 * are read with trust_load(), which does not block; what it refuses is skipped.
 */
#ifndef TPROXY_TRUST_DIRECTORY_H
#define TPROXY_TRUST_DIRECTORY_H

#include <openssl/x509_vfy.h>
#include <stdint.h>

/* Lets the store search the directories, a list separated by colons. Returns 0 or -ENOMEM. */
int trust_directory_add(X509_STORE *store, const char *directories);
/*
 * trust_mix_state() of each directory of such a list. The state of a directory changes when a file
 * is added, removed or replaced there, but not when a file is written to in place.
 */
uint64_t trust_directory_state(uint64_t state, const char *directories);

#endif
