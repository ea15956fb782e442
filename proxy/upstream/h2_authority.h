/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host in the first request of HTTP/2 without TLS (h2c, RFC 9113, 3.3): the field :authority.
 * Pure.
 */
#ifndef TPROXY_H2_AUTHORITY_H
#define TPROXY_H2_AUTHORITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sniffed.h"

/* True if the bytes are the client's preface, or the beginning of it. */
bool h2_may_begin(const uint8_t *data, size_t len);

/*
 * Reads the first len bytes of a client, which are an h2_may_begin(). A client may wait for the
 * server's settings before it makes a request: there is no name, and nothing to wait for, if the
 * bytes end after its own settings.
 */
enum sniff_result h2_authority_parse(const uint8_t *data, size_t len, struct sniffed *ret);

#endif
