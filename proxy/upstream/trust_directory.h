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
 * Returns a number for the state of the directories: another one after a file was added to one of
 * them, removed or replaced there. What is written into a file in place does not change it.
 */
uint64_t trust_directory_state(const char *directories);

#endif
