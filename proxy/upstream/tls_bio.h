/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How OpenSSL reads and writes the socket of a bridge. This replaces OpenSSL's own BIO for sockets,
 * because a turn must have a limit of reads: OpenSSL handles all messages that are there before it
 * returns, and a peer may send tickets and key updates without end. At the limit the socket seems
 * to be empty, and OpenSSL returns: other connections get their turn.
 */
#ifndef TPROXY_TLS_BIO_H
#define TPROXY_TLS_BIO_H

#include <openssl/bio.h>
#include <stdint.h>

/* Where the BIO reads and writes, and what is left of its turn. */
struct tls_socket {
	int fd;
	uint32_t reads; /* that are left; a record takes two */
};

/*
 * Returns a BIO for a socket that outlives it and stays where it is, or NULL without memory. The
 * caller, or its SSL, frees it.
 */
BIO *tls_bio_new(struct tls_socket *socket);
/* Begins a turn. */
void tls_bio_begin_turn(struct tls_socket *socket);

#endif
