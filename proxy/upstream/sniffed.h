/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the first bytes of a client tell: the result of the parsers in tls_hello.h, http_host.h and
 * h2_authority.h.
 */
#ifndef TPROXY_SNIFFED_H
#define TPROXY_SNIFFED_H

#include <stdbool.h>
#include <stddef.h>

#include "host_name.h"

/* A parser reads at most this many bytes: a ClientHello of 16 KiB, and the headers of its records.
 */
#define SNIFF_MAX (20 * 1024)

enum sniff_result {
	SNIFF_MORE,  /* so far the bytes may begin with a name: sniffed::need is set */
	SNIFF_NAME,  /* sniffed::name is set */
	SNIFF_NONE,  /* the bytes tell no name, and more bytes would not change that */
	SNIFF_RESET, /* the client has reset the connection; not returned by a parser */
};

struct sniffed {
	char name[HOST_NAME_LEN]; /* empty unless the result is SNIFF_NAME */
	bool ech;		  /* Encrypted ClientHello: the true name may be another one */
	const char *protocol;	  /* "tls", "http", "h2c", "ssh", or NULL: unknown */
	size_t need;		  /* SNIFF_MORE: with fewer bytes in all the result is the same */
};

#endif
