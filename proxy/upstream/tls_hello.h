/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The server name (SNI, RFC 6066) in the ClientHello of TLS. A hello with a post-quantum key share
 * does not fit into one segment, and it may be split over several records: it is read when all of
 * it is there. Pure.
 */
#ifndef TPROXY_TLS_HELLO_H
#define TPROXY_TLS_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "sniffed.h"

/*
 * Reads the first len bytes of a client. sniffed::ech is set if the hello has the extension
 * encrypted_client_hello. Browsers send it, with random content, to servers without ECH too.
 */
enum sniff_result tls_hello_parse(const uint8_t *data, size_t len, struct sniffed *ret);

#endif
