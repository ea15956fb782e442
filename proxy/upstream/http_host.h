/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host in the first request of HTTP/1: that of its target, if this is a URL, otherwise that of
 * the field Host. For HTTP/2 without TLS see h2_authority.h. Pure.
 */
#ifndef TPROXY_HTTP_HOST_H
#define TPROXY_HTTP_HOST_H

#include <stddef.h>
#include <stdint.h>

#include "sniffed.h"

/*
 * Reads the first len bytes of a client, up to the end of the header fields. There is no name if
 * two fields Host differ, if the host is an IP address, or if the request is CONNECT.
 */
enum sniff_result http_host_parse(const uint8_t *data, size_t len, struct sniffed *ret);

#endif
