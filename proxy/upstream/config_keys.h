/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The keys of [upstream NAME], as config.c reads and checks them. Private to config*.c. */
#ifndef TPROXY_CONFIG_KEYS_H
#define TPROXY_CONFIG_KEYS_H

#include "optable.h"
#include "upstream.h"

/* Limits of check-interval and of a weight. */
#define CHECK_LEAST_MS 100
#define WEIGHT_MAX     1000

/* Sets of enum upstream_type. */
#define SOCKS5 (1U << UPSTREAM_SOCKS5)
#define HTTP   (1U << UPSTREAM_HTTP)
#define TCP    (1U << UPSTREAM_TCP)
#define DIRECT (1U << UPSTREAM_DIRECT)
#define GROUP  (1U << UPSTREAM_GROUP)
#define PROXY  (SOCKS5 | HTTP)
#define SERVER (PROXY | TCP)

enum {
	KEY_TYPE,
	KEY_ADDRESS,
	KEY_TLS,
	KEY_TLS_NAME,
	KEY_TLS_CA,
	KEY_TLS_VERIFY,
	KEY_USER,
	KEY_PASSWORD_FILE,
	KEY_PASSWORD_CREDENTIAL,
	KEY_SEND_NAME,
	KEY_PIPELINE,
	KEY_PROXY_PROTOCOL,
	KEY_PROXY_PROCESS,
	KEY_MEMBERS,
	KEY_ORDER,
	KEY_WHEN_DOWN,
	KEY_CHECK_INTERVAL,
	_KEY_MAX,
};

/* The options of a row are a struct upstream_conf. */
extern const struct upstream_key {
	struct optable_row row;
	unsigned int types; /* that take it */
} upstream_keys[_KEY_MAX];

/* By enum upstream_type, NULL at the end. */
extern const char *const upstream_types[];

#endif
