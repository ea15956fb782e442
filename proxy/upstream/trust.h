/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads a file of trusted certificates. The main thread does this while the relay runs: the file
 * must be a regular one of at most TRUST_FILE_MAX bytes, so that a pipe cannot block the relay, nor
 * a device fill its memory. The bytes are read first, and OpenSSL parses them in memory.
 */
#ifndef TPROXY_TRUST_H
#define TPROXY_TRUST_H

#include <openssl/x509_vfy.h>
#include <stddef.h>
#include <stdint.h>

#include "fnv.h"

/*
 * The time to add a certificate grows with the number of those before it: Debian's bundle (220 KB,
 * 144 of them) takes 0.06 s of CPU time, 512 KiB of small ones 0.5 s, 1 MiB of those 0.9 to 1.4 s.
 */
#define TRUST_FILE_MAX (512 << 10)

/*
 * Adds the certificates and revocation lists (PEM) of a file to the store. Returns 0, or -errno
 * with a text of at most why_len bytes in why. The file must have at least one certificate.
 */
int trust_load(X509_STORE *store, const char *path, char *why, size_t why_len);

/* The state of no files. */
#define TRUST_STATE_FIRST FNV64_BASIS
/*
 * Returns a number for the state of several files; state is that of those before. It differs after
 * this file or directory was made, changed, replaced or removed, or got another mode.
 */
uint64_t trust_mix_state(uint64_t state, const char *path);

#endif
